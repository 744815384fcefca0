export function firstLoad(dist: string): number;

// Which rows of a long list are seen: the page scrolls, and the rows lie at fixed heights.
import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";

/** Beyond the edges of the screen, so that scrolling shows no gap. */
const BEYOND = 8;
const PHONE = "(max-width: 760px)";

export interface Seen {
  first: number;
  last: number;
  /** Of a row, in pixels; the style says the same. */
  height: number;
  /** Scrolls until a row is seen. */
  reveal: (at: number) => void;
}

export function useWindow(body: RefObject<HTMLElement>, count: number): Seen {
  const [range, set] = useState({ first: 0, last: 40, height: 36 });
  useEffect(() => {
    const look = (): void => {
      const element = body.current;
      if (!element) return;
      const height = matchMedia(PHONE).matches ? 80 : 36;
      const above = -element.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(above / height) - BEYOND);
      const last = Math.max(0, Math.ceil((above + innerHeight) / height) + BEYOND);
      set((now) => (now.first === first && now.last === last && now.height === height ? now : { first, last, height }));
    };
    look();
    // What is above the list grows and shrinks as well.
    const resized = new ResizeObserver(look);
    resized.observe(document.body);
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      resized.disconnect();
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, []);
  const reveal = (at: number): void => {
    const top = (body.current?.getBoundingClientRect().top ?? 0) + at * range.height;
    const margin = range.height * 2;
    if (top < margin) scrollBy(0, top - margin);
    else if (top + margin > innerHeight) scrollBy(0, top + margin - innerHeight);
  };
  return { ...range, last: Math.min(range.last, count), reveal };
}

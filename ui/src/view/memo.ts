// A component that is drawn again only when one of its properties, or a signal that it reads, is another.
import { Component, type ComponentType, type FunctionComponent, h } from "preact";

export function memo<P extends object>(inner: FunctionComponent<P>): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const now = this.props as Record<string, unknown>;
      return Object.entries(next).some(([key, value]) => now[key] !== value);
    }

    override render(): preact.VNode {
      return h(inner as FunctionComponent<object>, this.props);
    }
  };
}

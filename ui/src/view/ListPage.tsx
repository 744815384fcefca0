// The first page: the host's picture, who is short, and a row for each VM.
import { Feed } from "./Feed";
import { HostPicture } from "./HostPicture";
import { Short } from "./Short";
import { VmList } from "./VmList";

export function ListPage() {
  return (
    <>
      <HostPicture />
      <Short />
      <VmList />
      <section class="panel" aria-label="What happened">
        <h2>
          What happened <a href="#/events">all</a>
        </h2>
        <Feed most={8} />
      </section>
    </>
  );
}

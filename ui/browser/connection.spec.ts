// Tokens, lost connections, and daemons of another version.
import { expect, signIn, test, visit } from "./page";

test("a wrong token is refused with the daemon's words, and the right one is kept for this tab", async ({ page, daemon }) => {
  await page.goto(`${daemon.url}/`);
  await page.getByLabel("Token", { exact: true }).fill(`dynmem_${"0".repeat(64)}`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("This token is nobody's");
  await signIn(page, daemon, daemon.operate);
  await page.reload();
  await expect(page.getByTestId("link")).toHaveText("live");
  expect(page.url()).toBe(`${daemon.url}/`);
  const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
  expect(kept).toEqual([0, 1, ""]);
});

test("a lost connection is said, and comes back by itself", async ({ console: page, daemon }) => {
  await visit(page, "#/vm/web01");
  await expect(page.getByTestId("state")).toHaveText("running");
  await daemon.kill();
  // What was asked in that moment is an alert as well.
  await expect(page.getByRole("alert").filter({ hasText: "Connection lost" })).toBeVisible();
  await expect(page.getByText("What you see is old")).toBeVisible();
  await expect(page.getByTestId("link")).toHaveText("connection lost");
  await expect(page.getByTestId("big-assigned"), "what was known stays").toContainText("MiB");
  await page.getByRole("button", { name: "Pause" }).click();
  await expect(page.getByTestId("action-problem")).toContainText("Pause: The daemon does not answer");
  await daemon.run();
  await expect(page.getByTestId("link")).toHaveText("live");
  await expect(page.getByText("Connection lost")).toHaveCount(0);
  // Imitated guests end with their daemon: what is shown is what is so now.
  await expect(page.getByTestId("state")).not.toHaveText("running");
  await daemon.boot("web01");
  await expect(page.getByTestId("state")).toHaveText("running");
  await expect(page.getByLabel("Maximum"), "what could not be read then is read now").toHaveValue("1GiB");
});

test("a daemon of another version is named, and the page can be loaded again", async ({ console: page }) => {
  await page.route("**/v1/version", (route) =>
    route.request().method() === "GET" ? route.fulfill({ json: { version: "9.9.9" } }) : route.continue(),
  );
  await page.reload();
  await expect(page.getByRole("alert")).toContainText(/The daemon is 9\.9\.9, this page is of \d+\.\d+\.\d+/);
  await expect(page.getByTestId("link")).toHaveText("live"); // what it understands it shows
  await page.unroute("**/v1/version");
  await page.getByRole("button", { name: "Load the page again" }).click();
  await expect(page.getByTestId("link")).toHaveText("live");
  await expect(page.getByText("The daemon is 9.9.9")).toHaveCount(0);
});

test("fields and events that are not known yet harm nothing", async ({ console: page }) => {
  await page.route("**/v1/live", async (route) => {
    const vm = { name: "odd", state: "levitating", assigned_bytes: 1, demand_bytes: 1, target_bytes: 1, vcpus: 1 };
    const settings = { dynamic: true, startup_bytes: 1, minimum_bytes: 1, maximum_bytes: 1, buffer_percent: 20, weight: 1 };
    const view = { ...vm, integration: "telepathy", driver: { state: "ok" }, settings, from_the_future: [1] };
    const text = `event: omen\ndata: ?\n\nevent: snapshot\ndata: ${JSON.stringify({ host: {}, vms: [view] })}\n\n`;
    await route.fulfill({ body: text, contentType: "text/event-stream" });
  });
  await page.reload();
  await expect(page.locator('[data-vm="odd"]')).toContainText("levitating");
  await visit(page, "#/vm/odd");
  await expect(page.getByTestId("state")).toHaveText("levitating");
});

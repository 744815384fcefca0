// Settings are checked as they are typed, tried before they are set, and never overwrite what somebody else set.
import { expect, signIn, test, visit } from "./page";

const MIB = 2 ** 20;

test.beforeEach(async ({ console: page, daemon }) => {
  const memory = { maximum: "1GiB", minimum: "128MiB", buffer: 20, weight: 5000 };
  await daemon.do("PATCH", "/v1/vms/web01/memory", memory);
  await visit(page, "#/vm/web01");
  await expect(page.getByLabel("Maximum")).toHaveValue("1GiB");
});

test("a change is tried, set, and seen by everybody", async ({ console: page, daemon }) => {
  await page.getByLabel("Buffer").fill("400");
  const preview = page.getByTestId("preview");
  await expect(preview).toContainText("What would happen");
  await expect(preview).toContainText("web01");
  await expect(preview).toContainText("Can be lent");
  expect((await daemon.vm("web01")).settings.buffer_percent, "a dry run changes nothing").toBe(20);
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByTestId("done")).toHaveText("Set: buffer 400%");
  expect((await daemon.vm("web01")).settings.buffer_percent).toBe(400);
  await expect(page.getByTestId("feed")).toContainText("buffer");
  await expect(page.getByRole("button", { name: "Set", exact: true })).toBeDisabled();
});

test("a value out of range has the rule beside its field, before the daemon is asked", async ({ console: page, daemon }) => {
  const minimum = page.getByLabel("Minimum");
  await minimum.fill("2GiB");
  const words = page.locator("#f-minimum-words");
  await expect(words).toContainText("Minimum 2GiB is out of range: it must be at least 32MiB (the smallest VM) and at most");
  await expect(minimum).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByRole("button", { name: "Set", exact: true })).toBeDisabled();
  await page.getByLabel("Weight").fill("0");
  await expect(page.locator("#f-weight-words")).toContainText("from 1 to 10000");
  await minimum.fill("64 MiB");
  await expect(words).toHaveText("guaranteed once it is up");
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(minimum).toHaveValue("128MiB");
  expect((await daemon.vm("web01")).settings.minimum_bytes).toBe(128 * MIB);
});

test("what only the daemon can refuse stands beside its field, too", async ({ console: page }) => {
  await page.getByLabel("Startup").fill("300MiB");
  await expect(page.locator("#f-startup-words")).toContainText(
    "Startup can't change from 256MiB to 300MiB while the VM runs: the VM must be off",
  );
  await expect(page.getByTestId("preview")).toHaveCount(0);
});

test("who changed what meanwhile is told, and nothing is overwritten", async ({ console: page, daemon }) => {
  await page.getByLabel("Weight").fill("7000");
  await expect(page.getByTestId("preview")).toBeVisible();
  await daemon.do("PATCH", "/v1/vms/web01/memory", { maximum: "768MiB" });
  const stale = page.getByTestId("stale");
  await expect(stale).toContainText("Maximum: 1GiB → 768MiB");
  await expect(stale).toContainText("web01", { timeout: 5000 }); // the event log's sentence
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByTestId("refusal")).toContainText("Somebody else has changed these settings meanwhile");
  expect((await daemon.vm("web01")).settings.weight).toBe(5000);
  await page.getByRole("button", { name: "Keep my changes on top" }).click();
  await expect(page.getByLabel("Maximum")).toHaveValue("768MiB");
  await expect(page.getByLabel("Weight")).toHaveValue("7000");
  await expect(stale).toHaveCount(0);
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await expect(page.getByTestId("done")).toHaveText("Set: weight 7000");
  const { settings } = await daemon.vm("web01");
  expect([settings.weight, settings.maximum_bytes]).toEqual([7000, 768 * MIB]);
});

test("theirs can be taken, and a form that nobody has touched follows by itself", async ({ console: page, daemon }) => {
  await page.getByLabel("Weight").fill("7000");
  await daemon.do("PATCH", "/v1/vms/web01/memory", { weight: 100 });
  await page.getByRole("button", { name: "Take theirs" }).click();
  await expect(page.getByLabel("Weight")).toHaveValue("100");
  await daemon.do("PATCH", "/v1/vms/web01/memory", { weight: 200 });
  await expect(page.getByLabel("Weight")).toHaveValue("200");
  await expect(page.getByTestId("stale")).toHaveCount(0);
});

test("a VM is started, paused and switched off, and asks before something is lost", async ({ console: page, daemon }) => {
  await visit(page, "#/vm/spare");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(page.getByTestId("state")).toHaveText("running");
  await page.getByRole("button", { name: "Pause" }).click();
  await expect(page.getByTestId("state")).toHaveText("paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await expect(page.getByTestId("state")).toHaveText("running");
  await page.getByRole("button", { name: "Switch off" }).click();
  const dialog = page.getByRole("dialog", { name: "Switch off: spare" });
  await expect(dialog).toContainText("What its guest has not written is lost");
  await dialog.getByRole("button", { name: "No" }).click();
  expect((await daemon.vm("spare")).state).toBe("running");
  await page.getByRole("button", { name: "Switch off" }).click();
  await dialog.getByRole("button", { name: "Switch off" }).click();
  await expect(page.getByTestId("state")).toHaveText("off");
  expect((await daemon.vm("spare")).state).toBe("off");
});

test("what the daemon refuses is told in its own words", async ({ console: page, daemon }) => {
  await daemon.define("huge", { startup: "64GiB", minimum: "64GiB", maximum: "64GiB" });
  try {
    await visit(page, "#/vm/huge");
    await page.getByRole("button", { name: "Start" }).click();
    await expect(page.getByTestId("action-problem")).toContainText("Not enough memory");
    await expect(page.getByTestId("action-problem")).toContainText("huge");
    await expect(page.getByTestId("state")).toHaveText("off");
  } finally {
    await daemon.do("DELETE", "/v1/vms/huge");
  }
});

test("a token for reading sees all and is told why it can change nothing", async ({ page, daemon }) => {
  await page.evaluate(() => sessionStorage.clear());
  await page.reload();
  await signIn(page, daemon, daemon.read);
  await expect(page.getByTestId("read-only")).toContainText("This takes a token of role operate, and wall has role read");
  await visit(page, "#/vm/web01");
  await expect(page.getByLabel("Maximum")).toHaveValue("1GiB");
  await expect(page.getByLabel("Maximum")).toBeDisabled();
  await expect(page.getByRole("button", { name: "Shut down" })).toBeDisabled();
  await expect(page.getByTestId("big-assigned")).toContainText("MiB");
});

// Every page shows what the API tells, live, in the size and the colours that are asked for.
import { expect, signIn, test, visit } from "./page";

test("the list shows the host, and each VM as the API has it", async ({ console: page, daemon }) => {
  const { assigned_bytes, state } = await daemon.vm("web01");
  await expect(page.getByRole("heading", { level: 1 })).toContainText(/free of the host's 3 GiB/);
  const row = page.locator('[data-vm="web01"]');
  await expect(row).toContainText(state);
  await expect(row).toContainText(`${assigned_bytes / 2 ** 20} MiB`);
  await expect(row).toContainText("ok");
  await expect(page.locator('[data-vm="spare"]')).toContainText("off");
  await expect(page.getByTestId("stack").getByRole("listitem")).not.toHaveCount(0);
  await expect(page.getByTestId("stack").locator('[aria-label^="web01: "]')).toHaveCount(1);
  await expect(page.getByTestId("feed")).toContainText("web01 started");
});

test("the list is filtered and sorted", async ({ console: page }) => {
  await page.getByLabel("Filter VMs by name").fill("01");
  await expect(page.locator("[data-vm]")).toHaveCount(2);
  await page.getByLabel("Filter VMs by name").fill("nobody");
  await expect(page.getByText("No VM passes the filter")).toBeVisible();
  await page.getByLabel("Filter VMs by name").fill("");
  await page.getByRole("button", { name: "Name" }).click();
  await expect(page.getByRole("columnheader", { name: "Name" })).toHaveAttribute("aria-sort", "descending");
  await expect(page.locator("[data-vm]").first()).toHaveAttribute("data-vm", "web01");
  await page.getByRole("button", { name: "Assigned" }).click();
  await expect(page.locator("[data-vm]").last()).toHaveAttribute("data-vm", "spare");
});

test("what another client does is seen at once", async ({ console: page, daemon }) => {
  await daemon.define("fresh");
  const row = page.locator('[data-vm="fresh"]');
  await expect(row).toContainText("off");
  await daemon.boot("fresh");
  await expect(row).toContainText("running");
  await visit(page, "#/vm/fresh");
  await expect(page.getByTestId("state")).toHaveText("running");
  await daemon.do("POST", "/v1/vms/fresh/stop", { mode: "force", timeout_seconds: 60 });
  await expect(page.getByTestId("state")).toHaveText("off");
  await daemon.do("DELETE", "/v1/vms/fresh");
  await expect(page.getByText("No VM is named fresh")).toBeVisible();
  await visit(page, "#/");
  await expect(row).toHaveCount(0);
});

test("a VM's page has its figures, its past, why it is so, and what happened", async ({ console: page, daemon }) => {
  await page.getByRole("link", { name: "web01", exact: true }).first().click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("web01");
  const { assigned_bytes } = await daemon.vm("web01");
  await expect(page.getByTestId("big-assigned")).toHaveText(`${assigned_bytes / 2 ** 20} MiB`);
  await expect(page.getByTestId("why")).toContainText("web01 has");
  await expect(page.getByTestId("feed")).toContainText("web01 started");
  const chart = page.getByRole("figure", { name: /^Memory/ });
  const points = async (): Promise<number> => Number(await chart.getAttribute("data-points"));
  await expect.poll(points).toBeGreaterThan(1);
  const before = await points();
  await expect.poll(points, { message: "the chart goes on live" }).toBeGreaterThan(before + 1);
  for (const word of ["assigned", "demand", "target", "guest-visible", "balloon"]) {
    await expect(chart.locator(".u-legend")).toContainText(word);
  }
});

test("a stretch of time is chosen, zoomed by the mouse, and left again", async ({ console: page }) => {
  await visit(page, "#/vm/web01");
  const span = page.getByTestId("span");
  await page.getByRole("button", { name: "1 h" }).click();
  await expect(page.getByRole("button", { name: "1 h" })).toHaveAttribute("aria-pressed", "true");
  await expect(span).toHaveText("live");
  const over = page.locator(".u-over").first();
  const box = await over.boundingBox();
  if (!box) throw new Error("the chart is not drawn");
  await page.mouse.move(box.x + box.width / 2, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 10, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await expect(span).toHaveText(/\d\d:\d\d:\d\d – .*\d\d:\d\d:\d\d/);
  await page.getByRole("button", { name: "5 min" }).click();
  await expect(span).toHaveText("live");
});

test("the host and the events have pages of their own", async ({ console: page }) => {
  await page.getByRole("link", { name: "Host", exact: true }).click();
  await expect(page.getByText("Available", { exact: false }).first()).toBeVisible();
  await expect(page.getByRole("figure", { name: /^Memory/ })).toHaveAttribute("data-points", /[1-9]/);
  await expect(page.locator(".facts")).toContainText("512 MiB by setting");
  await page.getByRole("link", { name: "Events", exact: true }).click();
  await page.getByLabel("Filter events").fill("db01 started");
  await expect(page.getByTestId("feed").getByRole("listitem")).toHaveCount(1);
});

test("the keyboard alone is enough", async ({ page, daemon }) => {
  await page.goto(`${daemon.url}/`);
  await expect(page.getByLabel("Token", { exact: true })).toBeFocused();
  await page.keyboard.type(daemon.operate);
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("link")).toHaveText("live");
  await page.keyboard.press("/");
  await page.keyboard.type("web");
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("rows")).toBeFocused();
  await page.keyboard.press("Home");
  await expect(page.locator('[data-vm="web01"]')).toHaveAttribute("aria-selected", "true");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("web01");
  await page.getByRole("figure", { name: /^Memory/ }).focus();
  await page.keyboard.press("+");
  await expect(page.getByTestId("span")).toHaveText(/–/);
  await page.keyboard.press("0");
  await expect(page.getByTestId("span")).toHaveText("live");
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await page.keyboard.press("Escape");
  await expect(page).toHaveURL(/#\/$/);
  await page.keyboard.press("d");
  await expect(page.getByRole("columnheader", { name: "Demand", exact: false }).first()).toHaveAttribute("aria-sort", "descending");
});

test("everything that can be pressed can be reached by Tab and is seen to have the focus", async ({ console: page }) => {
  await visit(page, "#/vm/web01");
  await expect(page.getByLabel("Maximum")).not.toHaveValue("");
  const reached = new Set<string>();
  for (let count = 0; count < 80; count += 1) {
    await page.keyboard.press("Tab");
    const now = await page.evaluate(() => {
      const at = document.activeElement as HTMLElement;
      const isSeen = at === document.body || getComputedStyle(at).outlineStyle !== "none";
      return { word: at.id || at.ariaLabel || at.textContent?.trim().slice(0, 40) || "", isSeen };
    });
    if (reached.has("f-smart_paging_folder") && reached.has(now.word)) break;
    expect(now.isSeen, `${now.word} has a ring`).toBe(true);
    reached.add(now.word);
  }
  for (const word of ["Shut down", "Switch off", "1 h", "Zoom in", "f-maximum", "f-weight", "f-demand_model"]) {
    expect([...reached]).toContain(word);
  }
});

test("a phone shows all of it without scrolling sideways", async ({ page, daemon }) => {
  await page.setViewportSize({ width: 360, height: 780 });
  await signIn(page, daemon, daemon.operate);
  for (const hash of ["#/", "#/vm/web01", "#/host", "#/events"]) {
    await visit(page, hash);
    await expect(page.getByRole("main")).not.toBeEmpty();
    if (hash.includes("vm")) await expect(page.getByLabel("Maximum")).not.toHaveValue("");
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(width, hash).toBeLessThanOrEqual(360);
  }
});

test("light and dark follow the system, and texts stand out from what is behind them", async ({ console: page }) => {
  const backgrounds = new Set<string>();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await visit(page, "#/vm/web01");
    await expect(page.getByTestId("why")).toContainText("web01 has");
    backgrounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    // WCAG's contrast of each colour of texts with the panel behind it: 4.5 is asked of small ones.
    const contrasts = await page.evaluate(() => {
      const probe = document.createElement("i");
      document.body.append(probe);
      const luminance = (name: string): number => {
        probe.style.color = `var(--${name})`;
        const parts = getComputedStyle(probe).color.match(/[\d.]+/g)?.slice(0, 3).map(Number) ?? [];
        const [r = 0, g = 0, b = 0] = parts.map((part) => part / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const contrast = (one: string, other: string): number => {
        const [low = 0, high = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      };
      const found = ["ink", "muted", "accent", "bad", "warn", "odd", "good"].map((name) => [name, contrast(name, "panel")] as const);
      found.push(["ink on soft", contrast("ink", "soft")], ["muted on soft", contrast("muted", "soft")]);
      found.push(["bad on bad-soft", contrast("bad", "bad-soft")], ["main button", contrast("accent-ink", "accent")]);
      probe.remove();
      return found;
    });
    for (const [name, contrast] of contrasts) expect(contrast, `${name}, ${colorScheme}`).toBeGreaterThanOrEqual(4.5);
  }
  expect(backgrounds.size).toBe(2);
});

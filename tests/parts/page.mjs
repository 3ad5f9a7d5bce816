// Drives the live page in Chromium: `node page.mjs SCENARIO BASE OUT`, the JSON of what was seen on standard output.
// Every scenario fails on an error of the page's own or of its content security policy.
import { createRequire } from "node:module";
import { join } from "node:path";

const tools = process.env.NODE_PATH;
const require = createRequire(join(tools, "x.js"));
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core");

const [scenario, base, out, key] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const errors = [];

const open = async (options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1400, height: 860 }, ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
  page.on("pageerror", (error) => errors.push(String(error)));
  return page;
};

const violations = async (page) => {
  // The policy of the page forbids scripts of others; the tester's is put in beside it.
  const session = await page.context().newCDPSession(page);
  await session.send("Page.setBypassCSP", { enabled: true });
  await page.reload();
  await page.addScriptTag({ path: axe });
  const found = await page.evaluate(() => window.axe.run());
  await session.send("Page.setBypassCSP", { enabled: false });
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
};

const PAGES = ["/", "/refusals", "/routes", "/certificates", "/revocations", "/recordings", "/traffic", "/login"];

const scenarios = {
  // What stands there without a script, and that its forms work.
  async plain() {
    const page = await open({ javaScriptEnabled: false });
    await page.goto(base + "/");
    const list = await page.locator("main").innerText();
    await page.fill("input[name=q]", "nobody at all");
    await page.click("form.filter button");
    const filtered = await page.locator("main").innerText();
    await page.goto(base + "/");
    await page.click("tbody th a");
    const session = await page.locator("main").innerText();
    await page.fill("input[name=reason]", "looked wrong");
    await page.click("button.danger");
    return { list, filtered, session, ended: await page.locator(".notice").innerText() };
  },

  // What a script adds: newer figures, a pause, focus and a filter that stay.
  async live() {
    const page = await open();
    await page.goto(base + "/");
    const row = page.locator("tbody tr").first();
    const figures = async () => (await row.locator("td.number").allInnerTexts()).join(" ");
    const before = await figures();
    await page.waitForFunction((text) => [...document.querySelectorAll("tbody tr:first-child td.number")].map((cell) => cell.innerText).join(" ") !== text, before);
    const link = page.locator("tbody th a").first();
    await link.focus();
    await page.waitForTimeout(1500);
    const focused = await page.evaluate(() => document.activeElement.getAttribute("href") ?? "");
    const age = await page.locator("#age").innerText();
    await page.click("#pause");
    const paused = await figures();
    await page.waitForTimeout(2200);
    const still = (await figures()) === paused;
    const told = await page.locator("#age").innerText();
    await page.screenshot({ path: join(out, "sessions.png") });
    await link.press("Enter");
    await page.waitForURL("**/sessions/*");
    await page.screenshot({ path: join(out, "session.png"), fullPage: true });
    return { focused, age, still, told, title: await page.title() };
  },

  // Every page, light and dark, under axe, and no wider than a telephone. What they look like is kept where somebody wants to see it.
  async accessible() {
    const found = {};
    const picture = (page, name, fullPage = true) =>
      process.env.STAUNCH_SCREENSHOTS && page.screenshot({ path: join(out, `${name}.png`), fullPage });
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ colorScheme });
      const first = async (path) => {
        await page.goto(base + path);
        return page.locator("tbody th a").first().getAttribute("href");
      };
      const [session, recording, revocation] = [await first("/"), await first("/recordings"), await first("/revocations")];
      for (const path of [...PAGES, session, recording, revocation]) {
        await page.goto(base + path);
        const name = path.match(/^.(session|recording|revocation)s.[0-9a-f]/)?.[1] ?? (path.slice(1) || "sessions");
        await picture(page, `${name}-${colorScheme}`);
        const wrong = await violations(page);
        if (wrong.length) found[`${colorScheme} ${name}`] = wrong;
        if (colorScheme === "dark") continue;
        await page.setViewportSize({ width: 390, height: 844 });
        const beyond = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (beyond > 0) found[`${name} on a telephone`] = [`${beyond} pixels stand beyond the screen`];
        await picture(page, `${name}-narrow`);
        await page.setViewportSize({ width: 1040, height: 700 });
        await page.emulateMedia({ media: "print" });
        const cut = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (cut > 0) found[`${name} on paper`] = [`${cut} pixels are cut off`];
        await picture(page, `${name}-print`, false);
        await page.emulateMedia({ media: null });
        await page.setViewportSize({ width: 1400, height: 860 });
      }
    }
    return { found };
  },

  // A recording is found, read without a key, and opened with one that stays nowhere; without JavaScript, too.
  async recordings() {
    const [wrong, right] = key.split(" "), seen = {};
    for (const javaScriptEnabled of [true, false]) {
      const page = await open({ javaScriptEnabled });
      await page.goto(base + "/recordings");
      const list = await page.locator("main").innerText();
      await page.fill("input[name=q]", "nobody at all");
      await page.click("form.filter button");
      const filtered = await page.locator("main").innerText();
      await page.goto(base + "/recordings?q=ann");
      await page.click("tbody th a");
      const one = await page.locator("main").innerText();
      const open_with = async (identity) => {
        await page.fill("input[name=identity]", identity);
        await page.click("form.order button");
        return await page.locator("main").innerText();
      };
      const refused = await open_with(wrong);
      errors.length = 0;
      await page.goBack();
      const opened = await open_with(right);
      const kept = (await page.content()).includes(right) || (await page.context().cookies()).length > 0;
      await page.screenshot({ path: join(out, `transcript-${javaScriptEnabled}.png`), fullPage: true });
      await page.click("text=To the recording");
      const after = await page.locator("main").innerText();
      seen[javaScriptEnabled ? "script" : "plain"] = { list, filtered, one, refused, opened, kept, after };
      if (javaScriptEnabled) {
        // The page's policy forbids the tester's script.
        const session = await page.context().newCDPSession(page);
        await session.send("Page.setBypassCSP", { enabled: true });
        await open_with(right);
        await page.addScriptTag({ path: axe });
        seen.found = (await page.evaluate(() => window.axe.run())).violations.map(({ id }) => id);
      }
    }
    return seen;
  },

  // One session of the demo, for the README.
  async picture() {
    const page = await open({ viewport: { width: 1240, height: 700 }, deviceScaleFactor: 1.5 });
    await page.goto(base);
    await page.click("tbody th a");
    await page.waitForTimeout(3000);
    await page.screenshot({ path: out });
    return {};
  },

  // A log-in with the key, a form without its token, and the end of the login.
  async login() {
    const page = await open();
    await page.goto(base + "/routes");
    const led = new URL(page.url()).pathname;
    await page.fill("input[name=key]", "not the key at all");
    await page.click("main button");
    const wrong = await page.locator(".fault").innerText();
    errors.length = 0;
    await page.fill("input[name=key]", key);
    await page.click("main button");
    const inside = await page.locator("h1").innerText();
    const [cookie] = await page.context().cookies();
    const status = await page.evaluate(async () => (await fetch("/revoke", {
      method: "POST", body: new URLSearchParams({ subject: "ann" }),
    })).status);
    errors.length = 0;
    await page.click(".operator button");
    const outside = new URL(page.url()).pathname;
    await page.context().addCookies([{ ...cookie, value: "old" }]);
    await page.goto(base + "/");
    const expired = await page.locator(".fault").innerText();
    return { led, wrong, inside, cookie: { httpOnly: cookie.httpOnly, sameSite: cookie.sameSite }, status, outside, expired };
  },

  // A login that ends while its page is open: the page itself leads to the log-in. What is said to whoever is not logged in is
  // accessible, too.
  async ended() {
    const page = await open(), found = {};
    // The page's policy, which other scenarios keep, forbids the tester's script.
    const session = await page.context().newCDPSession(page);
    await session.send("Page.setBypassCSP", { enabled: true });
    const look = async (name) => {
      await page.addScriptTag({ path: axe });
      const { violations } = await page.evaluate(() => window.axe.run());
      if (violations.length) found[name] = violations.map(({ id }) => id);
    };
    await page.goto(base + "/login");
    await page.fill("input[name=key]", "not the key at all");
    await page.click("main button");
    await look("a wrong key");
    await page.fill("input[name=key]", key);
    await page.click("main button");
    await page.goto(base + "/revocations");
    await page.fill("input[name=subject]", "nobody");
    await page.click("button.danger");
    await look("a notice");
    await page.click("button.danger");
    await look("a fault");
    await page.goto(base + "/traffic");
    await page.waitForFunction(() => document.getElementById("age").innerText.startsWith("updated"));
    const inside = await page.locator("h1").innerText();
    // As from another tab.
    const token = await page.locator(".operator input[name=form_token]").first().getAttribute("value");
    await page.evaluate((form_token) => fetch("/logout", { method: "POST", body: new URLSearchParams({ form_token }), redirect: "manual" }), token);
    await page.context().addCookies([{ name: "staunch_admin", value: "old", url: base }]);
    await page.waitForURL("**/login?expired");
    const outside = new URL(page.url());
    errors.length = 0;
    await look("the log-in");
    return { inside, outside: outside.pathname + outside.search, told: await page.locator(".fault").innerText(), found };
  },

  // A log-in at the issuer, which is another site; then a revocation of oneself.
  async issuer() {
    const page = await open();
    await page.goto(base + "/routes");
    const led = new URL(page.url()).pathname;
    await page.click("text=Log in with corp");
    const away = new URL(page.url()).origin;
    // The issuer's own page loads nothing that its policy forbids to it.
    errors.length = 0;
    await page.fill("input[name=login]", "ann");
    await page.fill("input[name=password]", "any");
    await page.click("button[type=submit]");
    await page.click("button[type=submit]");
    await page.waitForURL(base + "/");
    errors.length = 0;
    const inside = await page.locator("h1").innerText();
    const who = await page.locator(".operator span").innerText();
    const cookies = (await page.context().cookies(base)).map(({ name, httpOnly, secure, sameSite, domain }) => ({ name, httpOnly, secure, sameSite, domain }));
    const unsigned = await page.evaluate(async () => (await fetch("/revoke", {
      method: "POST", body: new URLSearchParams({ subject: "ann" }),
    })).status);
    errors.length = 0;
    await page.goto(base + "/revocations");
    await page.fill("input[name=subject]", "ann");
    await page.click("button.danger");
    await page.goto(base + "/");
    const outside = new URL(page.url()).pathname;
    errors.length = 0;
    return { led, away, inside, who, cookies, unsigned, outside };
  },

  // Another site's page tries a form, a fetch, a frame.
  async foreign() {
    const page = await open();
    await page.goto(out);
    await page.waitForFunction(() => document.title === "tried");
    const seen = await page.evaluate(() => window.seen);
    errors.length = 0;
    return seen;
  },
};

try {
  const seen = await scenarios[scenario]();
  process.stdout.write(JSON.stringify({ ...seen, errors }));
} finally {
  await browser.close();
}

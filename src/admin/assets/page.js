// Puts newer live parts in place of the old, one a second. The page is whole without it.
(() => {
  "use strict";
  const live = document.getElementById("live");
  const age = document.getElementById("age");
  const pause = document.getElementById("pause");
  const said = document.getElementById("said");
  if (!live || !age || !pause) return;

  let source = null;
  let updated = Date.now();
  let lost = false;

  const selects = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && live.contains(selection.anchorNode);
  };

  const replace = (html) => {
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    const href = focused && focused.getAttribute("href");
    const region = focused && focused.classList.contains("scroll");
    const scrolled = [...live.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
    const template = document.createElement("template");
    template.innerHTML = html;
    live.replaceChildren(template.content);
    live.querySelectorAll(".scroll").forEach((part, n) => { part.scrollLeft = scrolled[n] || 0; });
    const again = href ? live.querySelector(`a[href="${CSS.escape(href)}"]`) : region && live.querySelector(".scroll");
    if (again) again.focus({ preventScroll: true });
  };

  const open = () => {
    const view = location.pathname + location.search;
    source = new EventSource("/events?view=" + encodeURIComponent(view));
    source.onmessage = (event) => {
      lost = false;
      if (selects()) return;
      updated = Date.now();
      replace(JSON.parse(event.data));
      tell();
    };
    source.onerror = () => { lost = true; tell(); };
  };

  // Browsers give up where the answer is an error: the login is over, or the gateway was not there.
  const again = () => {
    if (!source || source.readyState !== EventSource.CLOSED) return;
    fetch(source.url, { method: "HEAD" }).then((answer) => {
      if (answer.status === 401 || answer.status === 403) location.reload();
      else if (answer.ok && source && source.readyState === EventSource.CLOSED) open();
    }, () => {});
  };

  const close = () => { if (source) source.close(); source = null; };

  const tell = () => {
    const seconds = Math.round((Date.now() - updated) / 1000);
    const state = source === null ? "paused, " : lost ? "the gateway does not answer, " : "";
    age.textContent = `${state}updated ${seconds} s ago`;
    const words = source === null ? "Paused" : lost ? "The gateway does not answer" : "";
    if (said && said.textContent !== words) said.textContent = words;
    document.body.classList.toggle("stale", lost || seconds > 10);
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (source) { close(); pause.textContent = "Go on"; } else { open(); pause.textContent = "Pause"; }
    pause.setAttribute("aria-pressed", String(source === null));
    tell();
  });
  // Nobody looks at a hidden page.
  document.addEventListener("visibilitychange", () => {
    if (pause.getAttribute("aria-pressed") === "true") return;
    if (document.hidden) close(); else if (!source) open();
  });
  setInterval(tell, 1000);
  setInterval(again, 3000);
  open();
})();

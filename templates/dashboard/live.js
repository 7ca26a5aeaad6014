// Keeps the page true: when /events says that something happened, the same page is fetched again and the parts that differ
// are put in place. Forms are sent without leaving the page. Without this file everything works by loading pages.
"use strict";
(() => {
  const POLL = 15000; // also while events come: figures and ages move without any
  const SETTLE = 150; // a change is several events
  const parser = new DOMParser();
  const served = new Map(); // part → its HTML as the server wrote it
  const live = document.getElementById("live");
  const answer = document.getElementById("answer");
  let source = null;
  let soon = 0;
  let busy = false;
  let again = false;

  const parts = (root) => root.querySelectorAll("[data-part]");

  function say(word, tone) {
    live.hidden = false;
    live.textContent = word;
    live.className = "fact live " + tone;
  }

  // What a person has opened, written and focused stays while a part is replaced.
  function replace(old, fresh) {
    const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
    const written = [...old.querySelectorAll("input[id]")]
      .filter((one) => one.value !== one.defaultValue || one.checked !== one.defaultChecked)
      .map((one) => [one.id, one.value, one.checked]);
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const focused = active && (active.id || active.closest("details")?.id);
    const at = active && active.tagName === "INPUT" ? active.selectionStart : null;
    old.replaceWith(fresh);
    for (const id of open) {
      const one = document.getElementById(id);
      if (one) one.open = true;
    }
    for (const [id, value, checked] of written) {
      const one = document.getElementById(id);
      if (!one) continue;
      one.value = value;
      one.checked = checked;
      command(one);
    }
    if (focused) {
      const one = document.getElementById(focused);
      const target = one && one.tagName === "DETAILS" ? one.querySelector("summary") : one;
      target?.focus({ preventScroll: true });
      if (at !== null && target?.type !== "number") target?.setSelectionRange?.(at, at);
    }
  }

  function take(text) {
    const page = parser.parseFromString(text, "text/html");
    const fresh = new Map([...parts(page)].map((part) => [part.dataset.part, part]));
    const here = [...parts(document)];
    if (here.length !== fresh.size || here.some((part) => !fresh.has(part.dataset.part))) {
      document.querySelector("main").replaceWith(page.querySelector("main"));
      remember();
      return;
    }
    for (const part of here) {
      const next = fresh.get(part.dataset.part);
      const html = next.outerHTML;
      if (served.get(part.dataset.part) === html) continue;
      served.set(part.dataset.part, html);
      replace(part, next);
    }
  }

  function remember() {
    served.clear();
    for (const part of parts(document)) served.set(part.dataset.part, part.outerHTML);
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const address = new URL(location.href);
      address.hash = "";
      address.searchParams.delete("done");
      const got = await fetch(address, { headers: { Accept: "text/html" } });
      if (got.redirected) {
        location.assign("/page/login");
        return;
      }
      if (got.ok) take(await got.text());
    } catch {
      say("no connection", "bad");
    } finally {
      busy = false;
      if (again) {
        again = false;
        later();
      }
    }
  }

  function later() {
    clearTimeout(soon);
    soon = setTimeout(refresh, SETTLE);
  }

  const KINDS = ["intent", "done", "failed", "audit", "health", "position", "drift", "problems", "fallback", "missed"];

  function listen() {
    if (source || document.hidden) return;
    source = new EventSource("/events");
    source.onopen = () => {
      say("live", "good");
      later();
    };
    source.onerror = () => {
      say("reconnecting", "mind");
      // a refusal is final for an EventSource; the clock below tries again
      if (source && source.readyState === EventSource.CLOSED) source = null;
    };
    for (const kind of KINDS) source.addEventListener(kind, later);
  }

  // A browser has six connections to a host for all its tabs, so one that nobody sees gives its own back.
  function seen() {
    if (document.hidden) {
      source?.close();
      source = null;
    } else {
      listen();
      later();
    }
  }

  function command(input) {
    const pattern = input.dataset.pattern;
    if (!pattern) return;
    const number = Number(input.value);
    const rest = Math.round((100 - number) * 100) / 100;
    const text = pattern.replace("{n}", String(number)).replace("{rest}", String(rest));
    input.closest("details").querySelector("summary code").textContent = text;
  }

  function tell(tone, title, detail) {
    const notice = document.createElement("p");
    notice.className = "notice " + tone;
    if (tone === "bad") notice.setAttribute("role", "alert");
    const bold = document.createElement("b");
    bold.textContent = title + ".";
    notice.append(bold, " " + detail);
    answer.replaceChildren(notice);
    notice.scrollIntoView({ block: "nearest" });
  }

  async function send(form) {
    const button = form.querySelector("button[type=submit]");
    const details = form.closest("details");
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    try {
      const got = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { "X-Turnout-Page": "1" },
      });
      if (got.redirected) {
        location.assign("/page/login");
        return;
      }
      const said = await got.json();
      if (got.ok) {
        details.open = false;
        details.querySelector("summary").focus({ preventScroll: true });
        form.reset();
        tell("good", said.title, said.detail);
      } else {
        const hint = said.detail.includes("--force") && form.elements.force
          ? " (Here: tick “even if unhealthy”.)" : "";
        tell("bad", said.title, said.detail + hint);
      }
    } catch {
      tell("bad", "No answer", "The daemon did not answer; what was asked for may still be done. The history below tells.");
    } finally {
      button.disabled = false;
      button.removeAttribute("aria-busy");
      later();
    }
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.closest("details.act")) return;
    event.preventDefault();
    send(event.target);
  });
  document.addEventListener("input", (event) => command(event.target));
  document.addEventListener("keydown", (event) => {
    const details = event.target.closest?.("details[open]");
    if (event.key === "Escape" && details) {
      details.open = false;
      details.querySelector("summary").focus();
    }
  });
  document.addEventListener("visibilitychange", seen);
  setInterval(() => {
    if (document.hidden) return;
    listen();
    later();
  }, POLL);
  remember();
  listen();
})();

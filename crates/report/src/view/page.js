"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  const inspector = document.getElementById("inspector");
  const articles = [...document.querySelectorAll("article")];

  // Builds an element; children are elements or texts, never markup.
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const MARKS = { "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽" };
  const shown = (text) => (text === "" ? "∅" : text.replace(/[\n\r\t\u00a0]/g, (c) => MARKS[c]));
  const number = (value, digits) => value.toFixed(digits).replace("-", "−");
  const percent = (share) => {
    const value = 100 * share;
    return (value > 0 && value < 0.1 ? "< 0.1" : value.toFixed(1)) + "\u00a0%";
  };
  const fact = (list, name, value) => list.append(make("dt", "", name), make("dd", "", value));

  // A token is found by the position of its response and its own position there.
  const place = (span) => {
    const article = span.closest("article");
    return [articles.indexOf(article), [...span.parentNode.children].indexOf(span)];
  };

  const details = (span) => {
    const [r, t] = place(span);
    const response = data.responses[r];
    const depthClass = Number(/k(\d+)/.exec(span.className)[1]);
    const depth = data.candidates[depthClass] ?? data.blocks;
    const full = depth === data.blocks;
    const parts = [make("h3", "", make("span", "k" + depthClass, span.textContent.replace(/⏎\n/g, "⏎").replace(/⇥\t/g, "⇥")))];
    const facts = make("dl", "");
    fact(facts, "position", t + 1 + " of " + response.ids.length);
    fact(facts, "token id", String(response.ids[t]));
    fact(facts, "depth", full ? depth + " blocks, full" : depth + " of " + data.blocks + " blocks, saves " + percent(1 - depth / data.blocks));
    const log = response.log[t];
    fact(facts, "log-probability", log === null ? "not recorded" : number(log, 2) + " nats (" + percent(Math.exp(log)) + ")");
    parts.push(facts);
    const hazards = response.hazard[t];
    if (t === 0) parts.push(make("h4", "", "The first token always runs at full depth."));
    if (hazards.length > 0) {
      const lens = response.lens.length > 0 && response.lens[t].some((text) => text !== null);
      const kl = response.kl.length > 0 && response.kl[t].some((value) => value !== null);
      const head = make("tr", "", make("th", "d", "depth"), make("th", "", "exit"), make("th", "p n", ""));
      if (lens) head.append(make("th", "l", "readout"));
      if (kl) head.append(make("th", "q n", "KL"));
      const body = make("tbody", "");
      hazards.forEach((hazard, i) => {
        if (hazard === null) return;
        const share = hazard / 10000;
        const bar = make("div", "");
        bar.style.width = 100 * share + "%";
        const row = make("tr", i === depthClass ? "taken" : "", make("td", "d", String(data.candidates[i])),
          make("td", "", make("div", "meter", bar)), make("td", "p n", percent(share)));
        if (lens) {
          const text = response.lens[t][i];
          row.append(make("td", "l", text === null ? "" : shown(data.texts[text])));
        }
        if (kl) {
          const value = response.kl[t][i];
          row.append(make("td", "q n", value === null ? "" : number(value, 2)));
        }
        body.append(row);
      });
      parts.push(make("h4", "", "Exit probability at each depth reached"), make("table", "", make("thead", "", head), body));
      let note = full ? "" : "Deeper exits were not reached. ";
      if (kl) note += "KL in nats, from the full-depth prediction to the readout there.";
      if (note) parts.push(make("p", "quiet", note));
      parts[parts.length - 1].style.marginTop = ".7rem";
    } else if (t > 0) {
      parts.push(make("h4", "", "No exit probabilities were recorded."));
    }
    inspector.replaceChildren(...parts);
  };

  let current = null;
  const show = (span) => {
    if (span === current) return;
    if (current) current.classList.remove("on");
    current = span;
    current.classList.add("on");
    details(span);
  };
  const tokenOf = (target) => (target instanceof Element ? target.closest(".tokens > span") : null);

  // One token of each response is in the tab order; the arrow keys move on from it.
  for (const span of document.querySelectorAll(".tokens > span:first-child")) span.tabIndex = 0;
  const main = document.querySelector("main");
  main.addEventListener("pointerover", (event) => {
    const span = tokenOf(event.target);
    if (span) show(span);
  });
  main.addEventListener("click", (event) => {
    const span = tokenOf(event.target);
    if (span) focusOn(span);
  });
  main.addEventListener("focusin", (event) => {
    const span = tokenOf(event.target);
    if (span) show(span);
  });
  const focusOn = (span) => {
    for (const other of span.parentNode.querySelectorAll("[tabindex]")) other.removeAttribute("tabindex");
    span.tabIndex = 0;
    span.setAttribute("aria-describedby", "inspector");
    span.focus({ preventScroll: true });
    span.scrollIntoView({ block: "nearest" });
    show(span);
  };
  main.addEventListener("keydown", (event) => {
    const span = tokenOf(event.target);
    if (!span || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowRight: span.nextElementSibling, ArrowLeft: span.previousElementSibling,
      Home: span.parentNode.firstElementChild, End: span.parentNode.lastElementChild,
      ArrowDown: vertical(span, 1), ArrowUp: vertical(span, -1),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    if (moves[event.key]) focusOn(moves[event.key]);
  });
  // The token on the next line in this direction that is closest to the middle of the span.
  const vertical = (span, direction) => {
    const from = span.getClientRects()[0];
    if (!from) return null;
    const middle = from.left + from.width / 2;
    let best = null;
    let line = null;
    let nearest = Infinity;
    let next = span;
    while ((next = direction > 0 ? next.nextElementSibling : next.previousElementSibling)) {
      const box = next.getClientRects()[0];
      if (!box || Math.abs(box.top - from.top) < 4) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > 4) break;
      const distance = Math.abs(box.left + box.width / 2 - middle);
      if (distance < nearest) { nearest = distance; best = next; }
    }
    return best;
  };

  // Search: articles whose name, prompt or response contain the text. Texts are read when first needed.
  const search = document.querySelector("input[type=search]");
  const count = document.querySelector(".count");
  const none = document.querySelector(".none");
  let texts = null;
  const filter = () => {
    texts ??= articles.map((article) => {
      const part = (name) => article.querySelector(name)?.textContent ?? "";
      return (part("h2") + "\n" + part(".prompt pre") + "\n" + part(".tokens")).replace(/⏎\n/g, "\n").toLowerCase();
    });
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    articles.forEach((article, i) => {
      article.hidden = !texts[i].includes(wanted);
      if (!article.hidden) found += 1;
    });
    count.textContent = wanted ? found + " of " + articles.length : "";
    none.hidden = found > 0;
  };
  search.addEventListener("input", filter);

  // A depth of the legend brings its tokens forward.
  const legend = document.querySelector(".legend");
  legend.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button && on));
    if (on) main.dataset.only = button.dataset.class;
    else delete main.dataset.only;
  });

  // The sticky bar may take several lines: what stands below it has to know its height.
  const bar = document.querySelector(".bar");
  new ResizeObserver(() => root.style.setProperty("--bar", bar.offsetHeight + "px")).observe(bar);

  const theme = document.querySelector(".theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
})();

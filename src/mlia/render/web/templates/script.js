"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const targets = all(".target");
  const tabs = all("[role=tab]");
  let target = 0;
  let chosen = null;

  const node = (name, text, parent) => {
    const made = document.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  };

  function paint() {
    for (const each of all(".node")) {
      const found = data[target][each.dataset.op];
      each.setAttribute("class", ["node", found ? found[0] : "", each.dataset.op === chosen ? "chosen" : ""].join(" "));
    }
    for (const each of all(".point")) each.classList.toggle("chosen", each.dataset.op === chosen);
    for (const list of all(".bars")) {
      for (const each of all("li", list)) {
        const isChosen = each.dataset.op === chosen;
        each.setAttribute("aria-selected", String(isChosen));
        if (isChosen) list.setAttribute("aria-activedescendant", each.id);
      }
    }
  }

  function tell() {
    const found = data[target][chosen];
    const panel = targets[target].querySelector(".details");
    if (!found || !panel) return;
    panel.replaceChildren();
    node("h4", `${found[2]} ${found[1]}`, panel);
    node("p", found[3], panel).className = "small";
    const list = node("dl", "", panel);
    const lines = Number.parseFloat(found[5]) || found[5].startsWith("<") ? [["time", `${found[4]} ms, ${found[5]} %`]] : [];
    for (const [label, text] of [...lines, ...found[6]]) {
      node("dt", label, list);
      node("dd", text, list);
    }
  }

  function choose(key, origin) {
    if (!data[target][key]) return;
    chosen = key;
    paint();
    tell();
    const row = targets[target].querySelector(`.bars li[data-op="${key}"]`);
    const box = document.querySelector(`.node[data-op="${key}"]`);
    if (row && origin !== "row") row.scrollIntoView({ block: "nearest" });
    const canvas = document.querySelector(".canvas");
    if (box && canvas && origin !== "node") {
      const place = box.getBoundingClientRect();
      const frame = canvas.getBoundingClientRect();
      canvas.scrollTop += place.top - frame.top - frame.height / 2;
      canvas.scrollLeft += place.left - frame.left - frame.width / 2 + place.width / 2;
    }
  }

  function show(number) {
    target = number;
    targets.forEach((each, index) => { each.hidden = index !== number; });
    tabs.forEach((each, index) => {
      each.setAttribute("aria-selected", String(index === number));
      each.tabIndex = index === number ? 0 : -1;
    });
    paint();
    if (chosen) tell();
  }

  document.addEventListener("click", (event) => {
    const row = event.target.closest(".bars li");
    const mark = event.target.closest(".node, .point");
    const sort = event.target.closest("[data-sort]");
    const go = event.target.closest("[data-goto]");
    const pick = event.target.closest("[data-choose]");
    if (row) choose(row.dataset.op, "row");
    else if (mark) choose(mark.dataset.op, mark.classList.contains("node") ? "node" : "point");
    else if (sort) order(sort);
    else if (go) choose(go.dataset.goto, "advice");
    else if (pick) show(Number(pick.dataset.choose));
    else if (tabs.includes(event.target)) show(tabs.indexOf(event.target));
  });

  function order(button) {
    const isByTime = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(isByTime));
    const list = targets[target].querySelector(".bars");
    const rows = all("li", list);
    const place = new Map(Object.keys(data[target]).map((key, index) => [key, index]));
    rows.sort((one, other) => (isByTime ? other.dataset.time - one.dataset.time : 0)
      || place.get(one.dataset.op) - place.get(other.dataset.op));
    list.append(...rows);
  }

  document.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const ends = { Home: 0, End: -1 };
    if (tabs.includes(event.target) && step) {
      const next = (tabs.indexOf(event.target) + step + tabs.length) % tabs.length;
      show(next);
      tabs[next].focus();
      event.preventDefault();
      return;
    }
    const list = event.target.closest && event.target.closest(".bars");
    if (!list || !(event.key in ends || event.key === "ArrowDown" || event.key === "ArrowUp")) return;
    const rows = all("li", list);
    const now = rows.findIndex((each) => each.dataset.op === chosen);
    const next = event.key in ends ? rows.at(ends[event.key]) : rows[Math.min(rows.length - 1, Math.max(0, now + step))];
    choose(next.dataset.op, "key");
    event.preventDefault();
  });

  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
  const canvas = document.querySelector(".canvas");
  if (canvas) canvas.scrollLeft = (canvas.scrollWidth - canvas.clientWidth) / 2;
  paint();
})();

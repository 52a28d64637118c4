// Pickers: folders of the live server, and certificates found by typing (ARIA combobox pattern).

import { part } from "./fetching.js";
import { follow } from "./progress.js";

export function attach(root) {
  for (const box of root.querySelectorAll("[data-typeahead]")) typeahead(box);
  for (const button of root.querySelectorAll("button[data-folders]")) folders(button);
}

// The plain form has a list of tick boxes; this turns it into typing and chosen labels.
function typeahead(box) {
  const name = box.dataset.typeahead;
  const plain = box.querySelector(".checks");
  const input = box.querySelector("input[role=combobox]");
  const list = box.querySelector("[role=listbox]");
  const chosen = box.querySelector(".chosen");
  box.querySelector("[data-typing]").hidden = false;
  plain.hidden = true;
  const boxes = () => [...plain.querySelectorAll(`input[name="${name}"]`)];
  let active = -1;

  const show = () => {
    chosen.replaceChildren(...boxes().filter((tick) => tick.checked).map((tick) => {
      const item = document.createElement("li");
      const label = tick.dataset.label;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Remove ${label}`);
      remove.addEventListener("click", () => { tick.checked = false; show(); input.focus(); });
      item.append(label, remove);
      return item;
    }));
  };
  const close = () => { list.hidden = true; active = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const take = (option) => {
    const value = option.dataset.value;
    let tick = boxes().find((candidate) => candidate.value === value);
    if (!tick) {
      tick = document.createElement("input");
      tick.type = "checkbox";
      tick.name = name;
      tick.value = value;
      tick.dataset.label = option.dataset.label;
      plain.append(tick);
    }
    tick.checked = true;
    input.value = "";
    close();
    show();
  };
  const mark = (index) => {
    const options = [...list.querySelectorAll("[role=option]:not([aria-disabled])")];
    if (!options.length) return;
    active = (index + options.length) % options.length;
    options.forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    input.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  };
  let timer;
  let latest = 0;
  const look = async () => {
    const mine = ++latest;
    const html = await part(`${box.dataset.source}?q=${encodeURIComponent(input.value)}`);
    if (html === null || mine !== latest) return;
    list.innerHTML = html;
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    for (const option of list.querySelectorAll("[role=option]:not([aria-disabled])")) {
      option.addEventListener("mousedown", (event) => { event.preventDefault(); take(option); });
    }
  };
  // What was found for the text before must not be taken for this one.
  input.addEventListener("input", () => { latest += 1; close(); clearTimeout(timer); timer = setTimeout(look, 150); });
  input.addEventListener("focus", look);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const options = [...list.querySelectorAll("[role=option]:not([aria-disabled])")];
    if (event.key === "ArrowDown") { event.preventDefault(); if (list.hidden) look(); else mark(active + 1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); mark(active - 1); }
    else if (event.key === "Enter") { event.preventDefault(); if (!list.hidden && options.length) take(options[Math.max(active, 0)]); }
    else if (event.key === "Escape") close();
  });
  show();
}

// Asks the mail server for its folders and lets one be picked; the field stays free text.
function folders(button) {
  const input = document.getElementById(button.dataset.folders);
  const place = document.getElementById(button.dataset.place);
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    try {
      const last = await follow(button.dataset.source, new FormData(button.form), place, "Asking the mail server…");
      if (last === null) return;
      place.innerHTML = last.html;
      for (const option of place.querySelectorAll("button[data-folder]")) {
        option.addEventListener("click", () => {
          input.value = option.dataset.folder;
          place.replaceChildren();
          input.focus();
        });
      }
      place.querySelector("button, [tabindex]")?.focus();
    } catch {
      place.textContent = "Posthouse did not answer. Try again in a moment.";
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

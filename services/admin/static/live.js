// Parts that keep themselves current: data-live="/address", every data-every milliseconds.

import { part } from "./fetching.js";

export function attach(root, enliven) {
  for (const place of root.querySelectorAll("[data-live]")) follow(place, enliven);
}

function follow(place, enliven) {
  const every = Number(place.dataset.every || 5000);
  let shown = place.innerHTML.trim();
  let failures = 0;
  const look = async () => {
    const busy = document.hidden || place.contains(document.activeElement)
      || place.querySelector("details[open], input:checked");
    if (!busy) {
      try {
        const address = place.dataset.live;
        const html = await part(address);
        if (html === null) return;
        if (address !== place.dataset.live) throw new Error("searched anew meanwhile");
        failures = 0;
        if (html.trim() !== shown) {
          shown = html.trim();
          place.innerHTML = html;
          enliven(place);
        }
      } catch {
        failures += 1;
      }
    }
    setTimeout(look, every * Math.min(2 ** failures, 12));
  };
  setTimeout(look, every);
}

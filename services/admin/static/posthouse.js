// What the pages gain where JavaScript runs. Each module looks for its own marks and does nothing
// on pages that have none.

import { attach as attachBulk } from "./bulk.js";
import { attach as attachForms } from "./forms.js";
import { attach as attachLive } from "./live.js";
import { attach as attachMenu } from "./menu.js";
import { attach as attachPickers } from "./pickers.js";
import { attach as attachProgress } from "./progress.js";
import { attach as attachReordering } from "./reordering.js";
import { attach as attachSearch } from "./search.js";
import { attach as attachSending } from "./sending.js";
import { attach as attachShortcuts } from "./shortcuts.js";
import { attach as attachTimes } from "./times.js";

const parts = [attachBulk, attachForms, attachLive, attachMenu, attachPickers, attachProgress, attachReordering, attachSearch, attachSending, attachShortcuts, attachTimes];

/** Brings a part of the page to life: the whole document, or what a fetch put into it. */
export function enliven(root) {
  for (const attach of parts) attach(root, enliven);
}

enliven(document);

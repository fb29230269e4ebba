/** All broadcasts that we may see; while one runs its figures are read every few seconds. */

import { listBroadcasts } from "@/api/broadcasts";

import { useRows } from "./rows";

const FIGURES_EVERY_MS = 4_000;

export const useBroadcasts = () =>
  useRows(listBroadcasts, { changedBy: (event) => event.type === "BroadcastChanged", everyMs: FIGURES_EVERY_MS });

/** What is decided in a meeting, and orders that say which state they looked at. */

import { ref } from "vue";

import { orderAs, orderConference, readControl, type Order } from "@/api/control";
import { attempt } from "@/components/feedback";

import { useRows } from "./rows";

/** `site` is the participant that orders: one with the chair. Without it an operator does. */
export function useControl(conferenceId: string, site?: () => string) {
  const rows = useRows(() => readControl(conferenceId), {
    changedBy: (event) =>
      event.conference_id === conferenceId &&
      (event.type.startsWith("Conference") || event.type === "ParticipantChanged"),
  });
  const busy = ref(false);

  /** Two operators at once: the second is told what the first did, and sees it before ordering again. */
  async function order(wanted: Order): Promise<void> {
    busy.value = true;
    const version = rows.value.value?.version;
    try {
      const order = version === undefined ? wanted : { ...wanted, version };
      await (site === undefined ? orderConference(conferenceId, order) : orderAs(conferenceId, site(), order));
    } finally {
      await rows.refresh();
      busy.value = false;
    }
  }

  /** The same where nobody waits for it: what went wrong is said on the page. */
  const give = (wanted: Order) => attempt(() => order(wanted));

  return { control: rows.value, refresh: rows.refresh, busy, order, give };
}

export type ControlStore = ReturnType<typeof useControl>;

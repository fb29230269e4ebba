/**
 * Slides as one who takes part has them: whose they are, what comes, and the screen that is shared.
 *
 * The service decides who presents. A capture lives as long as we present: it ends when the person stops it
 * (here or on the browser's own bar), when somebody else presents, and when the operator takes the slides back.
 */

import { computed, onScopeDispose, ref, shallowRef, watch, type Ref } from "vue";

import { orderAs, type Control } from "@/api/control";
import { attempt, say } from "@/components/feedback";
import { i18n } from "@/i18n";
import { canCaptureScreen, captureScreen } from "@/media/screen";

import type { Rows } from "./rows";

interface Place {
  conferenceId: string;
  participantId: Ref<string | null>;
  control: Rows<Control>;
  /** Sends the screen as the second picture, or nothing. */
  send: (track: MediaStreamTrack | null) => Promise<void>;
}

export function useSlides({ conferenceId, participantId, control, send }: Place) {
  /** What comes from whoever presents. */
  const received = shallowRef<MediaStream | null>(null);
  /** Until the service says otherwise a second picture is thought possible. */
  const agreed = ref(true);
  const screen = shallowRef<MediaStreamTrack | null>(null);
  const busy = ref(false);
  /** The service has told that it is us: from then on another one means that our share is over. */
  let confirmed = false;

  const presenter = computed(() => control.value.value?.slides ?? null);
  const mine = computed(() => presenter.value !== null && presenter.value === participantId.value);
  /** What to show large: the slides of somebody else. */
  const shown = computed(() => (presenter.value !== null && !mine.value && agreed.value ? received.value : null));

  function take(stream: MediaStream | null) {
    received.value = stream;
    agreed.value = stream !== null;
  }

  async function release() {
    const track = screen.value;
    screen.value = null;
    confirmed = false;
    if (track === null) return;
    track.onended = null;
    track.stop();
    await send(null);
  }

  async function start() {
    const id = participantId.value;
    if (id === null || busy.value) return;
    busy.value = true;
    const { track, problem } = await captureScreen();
    if (track !== null) {
      screen.value = track;
      track.onended = () => void stop(); // the browser's own "stop sharing"
      await send(track);
      if (await attempt(() => orderAs(conferenceId, id, { command: "present" }))) {
        await control.refresh();
        if (screen.value === track) confirmed = mine.value;
        else if (mine.value) await giveUp(id); // stopped before the service had told that it is us
      } else {
        await release();
      }
    } else if (problem !== null && problem !== "cancelled") {
      say(i18n.global.t(`control.slides.${problem}`), "warning");
    }
    busy.value = false;
  }

  async function stop() {
    const id = participantId.value;
    const presenting = mine.value && !busy.value; // who has only begun to share gives up when that is through
    await release();
    if (id !== null && presenting) await giveUp(id);
  }

  async function giveUp(id: string) {
    await attempt(() => orderAs(conferenceId, id, { command: "stop-presenting" }));
    await control.refresh();
  }

  watch(presenter, () => {
    if (screen.value === null) return;
    if (mine.value) {
      confirmed = true;
    } else if (confirmed) {
      say(i18n.global.t("control.slides.taken"), "warning");
      void release();
    }
  });
  onScopeDispose(() => void release());

  return {
    presenter,
    mine,
    shown,
    agreed,
    sharing: computed(() => screen.value !== null),
    busy,
    possible: canCaptureScreen(),
    take,
    start,
    stop,
    release,
  };
}

export type Slides = ReturnType<typeof useSlides>;

/** One stay in a meeting: the connection as refs, tied to live events and to this browser's devices. */

import { computed, onBeforeUnmount, onMounted, ref, shallowRef, watch } from "vue";

import { readConference } from "@/api/conferences";
import { readControl } from "@/api/control";
import { listParticipants } from "@/api/participants";
import { hangUpWebrtc, offerWebrtc, readIceServers } from "@/api/webrtc";
import { MeetingConnection, type ConnectionState, type Trouble } from "@/media/meetingConnection";
import type { Quality } from "@/media/quality";

import { useLiveEvents, type LiveEvent } from "./live";
import { useLocalMedia } from "./localMedia";
import { useRows } from "./rows";
import { useSession } from "./session";
import { useSlides } from "./slides";

/** Why the stay is over, when it was not the person who left. */
export type EndReason = "meeting-ended" | "dropped" | "refused";

/** How the service begins the reason of one whom an operator took out. */
const DROPPED = "dropped by";

export function useMeetingRoom(conferenceId: string) {
  const media = useLocalMedia();
  const { isGuest } = useSession();
  const state = ref<ConnectionState>("connecting");
  const trouble = shallowRef<Trouble | null>(null);
  const endReason = ref<EndReason | null>(null);
  const programme = shallowRef<MediaStream | null>(null);
  const quality = shallowRef<Quality | null>(null);
  const participantId = ref<string | null>(null);
  const speakers = ref<string[]>([]);
  let connection: MeetingConnection | null = null;

  const ofThisMeeting = (event: LiveEvent) => event.conference_id === conferenceId;
  const conference = useRows(() => readConference(conferenceId), {
    changedBy: (event) => ofThisMeeting(event) && event.type.startsWith("Conference"),
  });
  // A guest may not read who else is there.
  const roster = useRows(() => (isGuest.value ? Promise.resolve(null) : listParticipants(conferenceId)), {
    changedBy: (event) => ofThisMeeting(event) && event.type === "ParticipantChanged",
  });
  const control = useRows(() => readControl(conferenceId), {
    changedBy: (event) => ofThisMeeting(event) && event.type.startsWith("Conference"),
  });
  const slides = useSlides({
    conferenceId,
    participantId,
    control,
    send: async (track) => connection?.setTrack("slides", track),
  });
  const self = computed(() => roster.value.value?.find((row) => row.id === participantId.value) ?? null);

  function connect() {
    void connection?.close();
    void slides.release();
    endReason.value = null;
    participantId.value = null;
    connection = new MeetingConnection(
      {
        iceServers: readIceServers,
        offer: (sdp, participant) => offerWebrtc(conferenceId, sdp, participant),
        hangUp: (participant) => hangUpWebrtc(conferenceId, participant),
      },
      {
        state: (next, why) => {
          state.value = next;
          trouble.value = why;
          participantId.value = connection?.participantId ?? null;
          if (next === "connected") void Promise.all([roster.refresh(), control.refresh()]);
          if (next === "ended") {
            endReason.value = "refused";
            void slides.release();
          }
        },
        programme: (stream) => (programme.value = stream),
        slides: slides.take,
        quality: (reading) => (quality.value = reading),
      },
      { audio: media.microphone.value, video: media.pictureTrack.value, slides: null },
    );
    state.value = "connecting";
    trouble.value = null;
    connection.start();
  }

  function end(reason: EndReason) {
    connection?.abandon();
    void slides.release();
    connection = null;
    state.value = "ended";
    endReason.value = reason;
  }

  /**
   * The service let us go. While our media flowed that was the operator's will, unless the row says otherwise;
   * after an outage it is only the service tidying up, and the person wants back in.
   */
  async function weWereLetGo() {
    const left = connection;
    if (left === null || state.value !== "connected") return;
    const id = participantId.value;
    await roster.refresh();
    if (connection !== left) return;
    const reason = roster.value.value?.find((row) => row.id === id)?.reason ?? DROPPED;
    if (reason.startsWith(DROPPED)) end("dropped");
    else left.reoffer();
  }

  useLiveEvents((event) => {
    if (!ofThisMeeting(event)) return;
    const ours = event.participant_id !== undefined && event.participant_id === participantId.value;
    if (event.type === "SpeakersChanged") speakers.value = event.participant_ids ?? [];
    else if (event.type === "RenegotiationNeeded" && ours) connection?.reoffer();
    else if (event.type === "ConferenceEnded") end("meeting-ended");
    else if (event.type === "ParticipantChanged" && ours && event.state === "left") void weWereLetGo();
  });
  watch(conference.value, (row) => {
    if (row?.state === "ended" && state.value !== "ended") end("meeting-ended");
  });
  watch(media.microphone, (track) => void connection?.setTrack("audio", track));
  watch(media.pictureTrack, (track) => void connection?.setTrack("video", track));

  const networkIsBack = () => {
    if (state.value !== "connected") connection?.reoffer();
  };
  const leave = async () => {
    void slides.release();
    const leaving = connection?.close();
    connection = null;
    await leaving;
  };
  const leaveNow = () => void leave();
  onMounted(async () => {
    window.addEventListener("online", networkIsBack);
    window.addEventListener("pagehide", leaveNow);
    await media.open();
    connect();
  });
  onBeforeUnmount(() => {
    window.removeEventListener("online", networkIsBack);
    window.removeEventListener("pagehide", leaveNow);
    leaveNow();
    media.release();
  });

  return {
    state,
    trouble,
    endReason,
    programme,
    quality,
    speakers,
    participantId,
    self,
    conference,
    roster,
    control,
    slides,
    connect,
    leave,
  };
}

import { call } from "./http";

export interface WebrtcAnswer {
  participant_id: string;
  sdp: string;
}

const at = (conferenceId: string) => `/conferences/${encodeURIComponent(conferenceId)}/webrtc`;

/** Offers to join, or with `participantId` to take the same place again. */
export const offerWebrtc = (conferenceId: string, sdp: string, participantId: string | null) =>
  call<WebrtcAnswer>("POST", at(conferenceId), {
    body: participantId === null ? { sdp } : { sdp, participant_id: participantId },
  });

export const hangUpWebrtc = (conferenceId: string, participantId: string) =>
  call<undefined>("DELETE", `${at(conferenceId)}/${encodeURIComponent(participantId)}`, { keepalive: true });

export const readIceServers = async (): Promise<RTCIceServer[]> =>
  (await call<{ ice_servers: RTCIceServer[] }>("GET", "/ice-servers")).ice_servers;

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

interface IceServer {
  urls: string[];
  username: string | null;
  credential: string | null;
}

/** A STUN server has no credentials; RTCIceServer would read their null as a word. */
export const readIceServers = async (): Promise<RTCIceServer[]> => {
  const { ice_servers: servers } = await call<{ ice_servers: IceServer[] }>("GET", "/ice-servers");
  return servers.map(({ urls, username, credential }) =>
    username === null || credential === null ? { urls } : { urls, username, credential },
  );
};

// A page that watches one stream by WHEP in `video#watch`; gives the session's address, or the status it got.
async ([url, token]) => {
  const peer = new RTCPeerConnection();
  for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
  const stream = new MediaStream();
  peer.ontrack = (event) => stream.addTrack(event.track);
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(url, {
    method: "POST",
    credentials: "omit",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  if (answer.status !== 201) {
    peer.close();
    return { status: answer.status };
  }
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const video = document.createElement("video");
  Object.assign(video, { id: "watch", autoplay: true, srcObject: stream });
  document.body.replaceChildren(video);
  video.play().catch(() => {});
  window.watching = peer;
  return { status: 201, location: answer.headers.get("Location") };
}

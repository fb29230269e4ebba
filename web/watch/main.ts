// The public's watch page: /watch/NAME plays /live/NAME, and goes on by itself after whatever has happened.

import { askInfo, type BroadcastInfo } from "./info";
import { Player } from "./player";
import { wordsFor } from "./words";

type Shown = "waiting" | "live" | "ended" | "unknown" | "offline" | "stalled" | "unsupported";

const ASK_EVERY = 4000;
const ASK_SOON = 1500; // while nothing moves
const FROZEN = 6000; // a picture that does not move for so long is fetched anew, if the player has not done it
const GONE_AFTER = 30_000; // an unknown broadcast that was live a moment ago may come back: the service restarts
const IDLE = 3000;

const name = decodeURIComponent(location.pathname.split("/").filter(Boolean).pop() ?? "");
const base = `/live/${encodeURIComponent(name)}`;
const words = wordsFor(navigator.language);

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const stage = element("stage");
const video = element<HTMLVideoElement>("video");
const volume = element<HTMLInputElement>("volume");
const bar = element("bar");
const unmute = element<HTMLButtonElement>("unmute");
const live = element<HTMLButtonElement>("live");

let info: BroadcastInfo | null = null;
let knownAt = 0;
let movedAt = 0;
let position = 0;
let blocked = false; // the browser wants a tap before it plays
let asking = 0;
const player = new Player(video, { failed: () => void look(), ended: () => void look() });

function show(shown: Shown): void {
  const text: Record<Shown, [string, string]> = {
    waiting: [words.waitingTitle, words.waitingText],
    live: ["", ""],
    ended: [words.endedTitle, words.endedText],
    unknown: [words.unknownTitle, words.unknownText],
    offline: [words.offlineTitle, words.offlineText],
    stalled: [words.stalledTitle, ""],
    unsupported: [words.unsupportedTitle, words.unsupportedText],
  };
  stage.dataset.state = shown === "unknown" || shown === "unsupported" ? "ended" : shown;
  element("veil-title").textContent = text[shown][0];
  element("veil-text").textContent = text[shown][1];
  const badge = element("badge");
  const state = shown === "stalled" ? "live" : shown;
  badge.dataset.state = state;
  badge.textContent =
    { live: words.live, waiting: words.waiting, ended: words.ended, offline: words.offline }[state as "live"] ?? "";
  bar.hidden = !(shown === "live" || shown === "stalled");
  unmute.hidden = bar.hidden || !(video.muted || blocked);
  element("unmute-text").textContent = blocked ? words.start : words.unmute;
}

function describe(): void {
  if (info === null) return;
  document.title = info.title ? `${info.title} · ${words.brand}` : words.brand;
  element("title").textContent = info.title;
  element("viewers").textContent = info.state === "live" ? words.viewers(Math.max(info.viewers, 1)) : ""; // whoever reads this is one
  element("delay").textContent =
    info.delay_seconds > 0 && info.state !== "ended" ? words.delay(info.delay_seconds) : "";
}

// Ask how things are, and do what follows from it.
async function look(): Promise<void> {
  window.clearTimeout(asking);
  const answer = await askInfo(base);
  window.clearTimeout(asking);
  asking = window.setTimeout(() => void look(), moving(performance.now()) ? ASK_EVERY : ASK_SOON);
  const now = performance.now();
  if (answer.kind === "info") {
    info = answer.info;
    knownAt = now;
    describe();
  }
  if (!Player.supported) {
    show("unsupported");
  } else if (answer.kind === "offline") {
    if (!moving(now)) show("offline");
  } else if (answer.kind === "unknown") {
    player.close();
    if (info !== null && info.state !== "ended" && now - knownAt < GONE_AFTER) show("waiting");
    else show(info === null ? "unknown" : "ended");
  } else if (answer.info.state === "ended") {
    player.close();
    show("ended");
  } else if (answer.info.state === "waiting") {
    if (!moving(now)) show("waiting");
  } else {
    watch(now);
  }
}

function watch(now: number): void {
  if (!player.open || (!moving(now) && !video.paused && now - movedAt > FROZEN)) {
    movedAt = now;
    if (stage.dataset.state !== "live") show("waiting");
    player.start(`${base}/index.m3u8`);
    void play();
  }
}

function moving(now: number): boolean {
  return player.open && (video.paused ? !blocked && video.readyState >= 2 : now - movedAt < 2500);
}

async function play(): Promise<void> {
  try {
    await video.play();
    blocked = false;
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
    if (video.muted) {
      blocked = true;
      show("live");
    } else {
      video.muted = true; // sound needs a tap, silence does not
      await play();
    }
  }
}

function refresh(): void {
  stage.classList.toggle("paused", video.paused);
  stage.classList.toggle("silent", video.muted || video.volume === 0);
  element("play").setAttribute("aria-label", video.paused ? words.play : words.pause);
  element("sound").setAttribute("aria-pressed", String(!video.muted));
  volume.value = String(video.muted ? 0 : video.volume);
  if (!bar.hidden) show(stage.dataset.state === "stalled" ? "stalled" : "live");
}

video.addEventListener("timeupdate", () => {
  if (video.currentTime === position) return;
  position = video.currentTime;
  movedAt = performance.now();
  if (stage.dataset.state !== "live" && player.open) show("live");
  live.classList.toggle("behind", !player.live);
});
video.addEventListener("waiting", () => {
  if (stage.dataset.state === "live" && video.readyState < 3) show("stalled");
});
for (const event of ["play", "pause", "volumechange"]) video.addEventListener(event, refresh);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void look();
});
window.addEventListener("online", () => void look());

unmute.addEventListener("click", () => {
  video.muted = false;
  if (video.volume === 0) video.volume = 1;
  void play();
});
element("play").addEventListener("click", () => {
  if (!video.paused) {
    video.pause();
    return;
  }
  player.toLive();
  void play();
});
element("sound").addEventListener("click", () => {
  video.muted = !video.muted;
  if (!video.muted && video.volume === 0) video.volume = 1;
});
volume.addEventListener("input", () => {
  video.volume = Number(volume.value);
  video.muted = video.volume === 0;
});
live.addEventListener("click", () => {
  player.toLive();
  void play();
});
element("full").addEventListener("click", () => {
  if (document.fullscreenElement) void document.exitFullscreen();
  else if (stage.requestFullscreen) void stage.requestFullscreen();
  else (video as HTMLVideoElement & { webkitEnterFullscreen?: () => void }).webkitEnterFullscreen?.();
});

let idling = 0;
function awake(): void {
  stage.classList.remove("idle");
  window.clearTimeout(idling);
  idling = window.setTimeout(() => stage.classList.toggle("idle", !video.paused), IDLE);
}
for (const event of ["pointermove", "pointerdown", "keydown"]) stage.addEventListener(event, awake);

document.documentElement.lang = words.brand === "安视直播" ? "zh-CN" : "en";
document.title = words.brand;
element("brand").textContent = words.brand;
element("live-text").textContent = words.live;
element("full").setAttribute("aria-label", words.fullScreen);
element("sound").setAttribute("aria-label", words.sound);
volume.setAttribute("aria-label", words.volume);
live.setAttribute("aria-label", words.toLive);
video.muted = true;
show("waiting");
refresh();
awake();
void look();

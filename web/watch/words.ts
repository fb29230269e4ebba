// What the page says, in the reader's language.

export interface Words {
  brand: string;
  live: string;
  waiting: string;
  ended: string;
  offline: string;
  waitingTitle: string;
  waitingText: string;
  endedTitle: string;
  endedText: string;
  unknownTitle: string;
  unknownText: string;
  offlineTitle: string;
  offlineText: string;
  stalledTitle: string;
  unsupportedTitle: string;
  unsupportedText: string;
  unmute: string;
  start: string;
  play: string;
  pause: string;
  sound: string;
  volume: string;
  fullScreen: string;
  toLive: string;
  viewers: (count: number) => string;
  delay: (seconds: number) => string;
}

const chinese: Words = {
  brand: "安视直播",
  live: "直播中",
  waiting: "等待开始",
  ended: "已结束",
  offline: "连接中断",
  waitingTitle: "直播即将开始",
  waitingText: "画面到达后会自动播放，无需刷新",
  endedTitle: "直播已结束",
  endedText: "感谢观看",
  unknownTitle: "没有这场直播",
  unknownText: "它可能已经结束，请核对地址",
  offlineTitle: "网络连接中断",
  offlineText: "正在自动重新连接…",
  stalledTitle: "正在缓冲…",
  unsupportedTitle: "此浏览器无法播放直播",
  unsupportedText: "请使用较新版本的浏览器",
  unmute: "点击开启声音",
  start: "点击播放",
  play: "播放",
  pause: "暂停",
  sound: "声音",
  volume: "音量",
  fullScreen: "全屏",
  toLive: "回到最新画面",
  viewers: (count) => `${count.toLocaleString("zh-CN")} 人在看`,
  delay: (seconds) => `画面延时 ${seconds} 秒`,
};

const english: Words = {
  brand: "Anshi Live",
  live: "Live",
  waiting: "Waiting",
  ended: "Ended",
  offline: "Offline",
  waitingTitle: "The broadcast is about to begin",
  waitingText: "It plays by itself as soon as there is a picture",
  endedTitle: "The broadcast has ended",
  endedText: "Thank you for watching",
  unknownTitle: "There is no such broadcast",
  unknownText: "It may have ended; please check the address",
  offlineTitle: "The connection is lost",
  offlineText: "Connecting again…",
  stalledTitle: "Buffering…",
  unsupportedTitle: "This browser cannot play the broadcast",
  unsupportedText: "Please use a newer browser",
  unmute: "Turn sound on",
  start: "Play",
  play: "Play",
  pause: "Pause",
  sound: "Sound",
  volume: "Volume",
  fullScreen: "Full screen",
  toLive: "Back to live",
  viewers: (count) => `${count.toLocaleString("en")} watching`,
  delay: (seconds) => `shown ${seconds} s late`,
};

export function wordsFor(language: string): Words {
  return language.toLowerCase().startsWith("zh") ? chinese : english;
}

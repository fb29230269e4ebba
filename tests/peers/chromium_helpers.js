// Runs in every page before its own scripts: what a test sees and hears there.
(() => {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const devices = navigator.mediaDevices;
  if (devices) {
    const capture = devices.getUserMedia.bind(devices);
    devices.getUserMedia = (wanted) => {
      const audio = wanted.audio && { ...(wanted.audio === true ? {} : wanted.audio), ...raw };
      return capture({ ...wanted, audio });
    };
  }

  const mean = (pixels) => {
    const sum = [0, 0, 0];
    for (let at = 0; at < pixels.length; at += 4) for (let c = 0; c < 3; c++) sum[c] += pixels[at + c];
    return sum.map((value) => Math.round((4 * value) / pixels.length));
  };

  // Mean colours of a region (fractions: left, top, right, bottom) of a video, and of its four quarters.
  const colours = (selector, [left, top, right, bottom]) => {
    const video = document.querySelector(selector);
    if (!video || !video.videoWidth || video.readyState < 2) return null;
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    const part = (l, t, r, b) => {
      const x = Math.floor(l * canvas.width), y = Math.floor(t * canvas.height);
      const width = Math.max(1, Math.floor((r - l) * canvas.width));
      const height = Math.max(1, Math.floor((b - t) * canvas.height));
      return mean(context.getImageData(x, y, width, height).data);
    };
    const x = (left + right) / 2, y = (top + bottom) / 2;
    return [
      part(left, top, right, bottom),
      part(left, top, x, y), part(x, top, right, y), part(left, y, x, bottom), part(x, y, right, bottom),
    ];
  };

  // One analyser for each audio track, made at the first question.
  const analysers = new WeakMap();
  let context = null;
  const analyserOf = (stream, track) => {
    if (!analysers.has(track)) {
      context ??= new AudioContext();
      const analyser = new AnalyserNode(context, { fftSize: 16384, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
      analysers.set(track, analyser);
    }
    return analysers.get(track);
  };

  // What an element without a stream of its own plays: the same tracks at each question.
  const captures = new WeakMap();
  const captured = (element) => {
    if (!captures.has(element)) captures.set(element, element.captureStream());
    return captures.get(element);
  };

  // The loudest frequency an element plays, its level, and the level within 15 Hz of the one asked for.
  const tone = async (selector, asked) => {
    const element = document.querySelector(selector);
    if (!element) return null;
    const stream = element.srcObject ?? captured(element);
    const [track] = stream.getAudioTracks();
    if (!track) return null;
    const analyser = analyserOf(stream, track);
    if (context.state !== "running") await context.resume();
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const step = context.sampleRate / analyser.fftSize;
    let best = Math.ceil(50 / step), level = -200;
    for (let bin = 0; bin < levels.length; bin++) {
      if (bin * step >= 50 && levels[bin] > levels[best]) best = bin;
      if (Math.abs(bin * step - asked) <= 15) level = Math.max(level, levels[bin]);
    }
    const finite = (value) => (Number.isFinite(value) ? value : -200);
    return { frequency: best * step, level: finite(levels[best]), asked: finite(level) };
  };

  window.anshiPeer = { colours, tone };
})();

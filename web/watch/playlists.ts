// Playlists on their way to hls.js, which has two habits that cost a viewer seconds after an interruption.

import Hls, {
  type HlsConfig,
  type Loader,
  type LoaderCallbacks,
  type LoaderConfiguration,
  type PlaylistLoaderContext,
} from "hls.js/light";

const BLOCKED = 14_000; // the service lets a request wait for three target durations

// A pause of the source is a segment without parts. hls.js would skip one that lies among segments with parts, and
// stand still before the hole, or wait for parts of it: it gets the whole segment as a part.
export function withParts(playlist: string): string {
  if (!playlist.includes("#EXT-X-PART:")) return playlist;
  const lines: string[] = [];
  let begun = false; // parts are listed from here on
  let parts = 0;
  let duration = -1;
  for (const line of playlist.split("\n")) {
    if (line.startsWith("#EXT-X-PART:")) {
      begun = true;
      parts += 1;
    } else if (line.startsWith("#EXTINF:")) {
      duration = lines.length;
    } else if (line !== "" && !line.startsWith("#")) {
      if (begun && parts === 0 && duration >= 0) {
        const seconds = parseFloat((lines[duration] ?? "").slice("#EXTINF:".length));
        lines.splice(duration, 0, `#EXT-X-PART:DURATION=${seconds.toFixed(5)},URI="${line}"`);
      }
      parts = 0;
      duration = -1;
    }
    lines.push(line);
  }
  return lines.join("\n");
}

// hls.js gives up a request that waits for the next part after 3 s, and then asks only every other second.
function patient(config: LoaderConfiguration): LoaderConfiguration {
  const loadPolicy = { ...config.loadPolicy, maxTimeToFirstByteMs: BLOCKED, maxLoadTimeMs: BLOCKED };
  return { ...config, loadPolicy, timeout: BLOCKED };
}

const OwnLoader = Hls.DefaultConfig.loader as unknown as new (config: HlsConfig) => Loader<PlaylistLoaderContext>;

export class PlaylistLoader extends OwnLoader {
  override load(
    context: PlaylistLoaderContext,
    config: LoaderConfiguration,
    callbacks: LoaderCallbacks<PlaylistLoaderContext>,
  ): void {
    const waits = context.deliveryDirectives?.msn !== undefined;
    super.load(context, waits ? patient(config) : config, {
      ...callbacks,
      onSuccess: (response, stats, loaded, network) => {
        if (typeof response.data === "string") response.data = withParts(response.data);
        callbacks.onSuccess(response, stats, loaded, network);
      },
    });
  }
}

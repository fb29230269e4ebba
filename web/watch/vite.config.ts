import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

// The public's watch page is a build of its own, which the edge serves at /watch/: nothing of the other pages is in it.
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "/watch/",
  build: {
    outDir: fileURLToPath(new URL("../dist/watch", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});

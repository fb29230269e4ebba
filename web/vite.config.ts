import { fileURLToPath } from "node:url";

import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vitest/config";

// `npm run dev` against a running service: its pages' calls go there (a self-signed certificate is fine).
const service = process.env.ANSHI_SERVICE ?? "https://localhost:8443";

export default defineConfig({
  plugins: [vue()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  define: {
    __VUE_OPTIONS_API__: true, // Element Plus needs it
    __VUE_PROD_DEVTOOLS__: false,
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: false,
    __VUE_I18N_FULL_INSTALL__: true,
    __VUE_I18N_LEGACY_API__: false,
    __INTLIFY_PROD_DEVTOOLS__: false,
    __INTLIFY_DROP_MESSAGE_COMPILER__: false,
  },
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // nothing as data: URIs, so that img-src and font-src may stay 'self'
    chunkSizeWarningLimit: 900,
    modulePreload: { polyfill: false }, // the polyfill would be an inline script in spirit; every WebRTC browser has it
  },
  server: {
    proxy: {
      "/api": { target: service, secure: false, changeOrigin: true },
      "/ws": { target: service, secure: false, changeOrigin: true, ws: true },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});

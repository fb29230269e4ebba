/// <reference types="vite/client" />
/// <reference types="element-plus/global" />

// Only for ESLint, which reads no .vue file; vue-tsc finds the file itself first.
declare module "*.vue" {
  import type { Component } from "vue";
  const component: Component;
  export default component;
}

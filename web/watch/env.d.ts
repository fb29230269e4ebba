// The small build of hls.js has no declarations of its own; what we use of it is the same.
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}

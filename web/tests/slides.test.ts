import { effectScope, ref, shallowRef } from "vue";
import { expect, test, vi } from "vitest";

import type { Control } from "@/api/control";
import { useSlides } from "@/stores/slides";

const orders: string[] = [];
const control = shallowRef<Control | null>(null);
const tell = (slides: string | null) => (control.value = { slides } as Control);

vi.mock("@/api/control", () => ({
  orderAs: (_conference: string, _participant: string, order: { command: string }) => {
    orders.push(order.command);
    return Promise.resolve();
  },
}));
vi.mock("@/media/screen", () => ({
  canCaptureScreen: () => true,
  captureScreen: () => Promise.resolve({ track: { stop: () => undefined, onended: null }, problem: null }),
}));
vi.mock("@/i18n", () => ({ i18n: {} }));
vi.mock("@/components/feedback", () => ({
  attempt: async (work: () => Promise<unknown>) => {
    await work();
    return true;
  },
  say: () => undefined,
}));

test("a share that ends before the service has told of it is given up all the same", async () => {
  let told = () => undefined as void;
  const rows = {
    value: control,
    problem: ref(null),
    loading: ref(false),
    refresh: () =>
      new Promise<void>((resolve) => {
        told = () => {
          tell(orders.at(-1) === "present" ? "me" : null);
          resolve();
        };
      }),
  };
  const send = () => Promise.resolve();
  const scope = effectScope();
  const slides = scope.run(() => useSlides({ conferenceId: "c", participantId: ref("me"), control: rows, send }))!;
  const started = slides.start();
  await vi.waitFor(() => expect(orders).toEqual(["present"]));
  await slides.stop();
  expect(slides.sharing.value).toBe(false);
  told();
  await vi.waitFor(() => expect(orders).toEqual(["present", "stop-presenting"]));
  told();
  await started;
  expect(slides.presenter.value).toBeNull();
  scope.stop();
});

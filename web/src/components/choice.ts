import type { Order } from "@/api/control";

/** An order that is offered in a list, and how its button looks. */
export interface Choice {
  words: string;
  order: Order;
  disabled?: boolean;
  look?: { type?: "primary" | "success" | "danger"; plain?: boolean; text?: boolean };
  testid?: string;
}

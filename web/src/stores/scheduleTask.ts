import type { Schedule } from "@/api/schedules";

/** What the dialog of schedules is open for. */
export type ScheduleTask = { what: "create" | "template" } | { what: "edit" | "use"; schedule: Schedule };

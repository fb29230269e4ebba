import { createRouter, createWebHistory, type RouteLocationRaw } from "vue-router";

import { whenSignedOut } from "./api/http";
import { useSession, type Permission } from "./stores/session";

declare module "vue-router" {
  interface RouteMeta {
    /** Anyone may see it. */
    open?: boolean;
    needs?: Permission;
  }
}

export const router = createRouter({
  history: createWebHistory(),
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  routes: [
    { path: "/sign-in", name: "sign-in", component: () => import("./pages/SignInPage.vue"), meta: { open: true } },
    { path: "/", name: "home", component: () => import("./pages/NotFoundPage.vue") },
    {
      path: "/meetings",
      name: "meetings",
      component: () => import("./pages/MeetingsPage.vue"),
      meta: { needs: "meetings" },
    },
    {
      path: "/meetings/schedules",
      name: "schedules",
      component: () => import("./pages/SchedulesPage.vue"),
      meta: { needs: "meetings" },
    },
    {
      path: "/meetings/minutes/:id?",
      name: "minutes",
      component: () => import("./pages/MinutesPage.vue"),
      props: true,
      meta: { needs: "operate" },
    },
    {
      path: "/meetings/:id/join",
      name: "join",
      component: () => import("./pages/JoinPage.vue"),
      props: true,
      meta: { needs: "join" },
    },
    {
      path: "/meetings/:id/room",
      name: "room",
      component: () => import("./pages/RoomPage.vue"),
      props: true,
      meta: { needs: "join" },
    },
    {
      path: "/meetings/:id/operate",
      name: "operate",
      component: () => import("./pages/OperatePage.vue"),
      props: true,
      meta: { needs: "operate" },
    },
    {
      path: "/cameras",
      name: "cameras",
      component: () => import("./pages/CamerasPage.vue"),
      meta: { needs: "cameras" },
    },
    {
      path: "/cameras/:id/rules",
      name: "rules",
      component: () => import("./pages/RulesPage.vue"),
      props: true,
      meta: { needs: "violations" },
    },
    {
      path: "/violations",
      name: "violations",
      component: () => import("./pages/ViolationsPage.vue"),
      meta: { needs: "violations" },
    },
    {
      path: "/recordings",
      name: "recordings",
      component: () => import("./pages/RecordingsPage.vue"),
      meta: { needs: "recordings" },
    },
    {
      path: "/broadcasts",
      name: "broadcasts",
      component: () => import("./pages/BroadcastsPage.vue"),
      meta: { needs: "broadcasts" },
    },
    { path: "/sites", name: "sites", component: () => import("./pages/SitesPage.vue"), meta: { needs: "sites" } },
    { path: "/users", name: "users", component: () => import("./pages/UsersPage.vue"), meta: { needs: "users" } },
    { path: "/audit", name: "audit", component: () => import("./pages/AuditPage.vue"), meta: { needs: "audit" } },
    {
      path: "/:rest(.*)*",
      name: "not-found",
      component: () => import("./pages/NotFoundPage.vue"),
      meta: { open: true },
    },
  ],
});

/** The first page that the roles allow; a guest's is its meeting. */
export function home(): RouteLocationRaw {
  const { session, may } = useSession();
  const meeting = session.value?.conference_id;
  if (typeof meeting === "string") return { name: "join", params: { id: meeting } };
  const page = (["meetings", "cameras", "users", "audit", "sites"] as const).find(may);
  return { name: session.value === null ? "sign-in" : (page ?? "not-found") };
}

router.beforeEach(async (to) => {
  const { session, may, restore } = useSession();
  await restore();
  if (to.meta.open === true) return true;
  if (session.value === null) return { name: "sign-in", query: to.fullPath === "/" ? {} : { next: to.fullPath } };
  if (to.name === "home") return home();
  if (to.meta.needs !== undefined && !may(to.meta.needs)) return { name: "not-found", query: { denied: "1" } };
  return true;
});

whenSignedOut(() => {
  const { session, forget } = useSession();
  if (session.value === null) return;
  forget();
  const here = router.currentRoute.value;
  void router.replace({ name: "sign-in", query: { next: here.fullPath } });
});

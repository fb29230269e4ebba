/** Cameras in the order of the site tree, and which of them a site or a search leaves. Pure. */

import type { Camera } from "@/api/cameras";

import type { SiteNode, SiteTree } from "./siteTree";

export type TreeRow = { key: string; depth: number } & ({ site: SiteNode; count: number } | { camera: Camera });

/** Sites that have cameras at or below them, each followed by its own, unless it is among `closed`. */
export function cameraRows(cameras: readonly Camera[], tree: SiteTree | null, closed: ReadonlySet<string>): TreeRow[] {
  const bySite = new Map<string, Camera[]>();
  for (const camera of cameras) bySite.set(camera.site_id, [...(bySite.get(camera.site_id) ?? []), camera]);
  const counts = new Map<string, number>();
  const count = (node: SiteNode): number => {
    const total = (bySite.get(node.id)?.length ?? 0) + node.children.reduce((sum, child) => sum + count(child), 0);
    counts.set(node.id, total);
    return total;
  };
  const rows: TreeRow[] = [];
  const visit = (node: SiteNode, depth: number) => {
    const total = counts.get(node.id) ?? 0;
    if (total === 0) return;
    rows.push({ key: `site:${node.id}`, depth, site: node, count: total });
    if (closed.has(node.id)) return;
    for (const camera of bySite.get(node.id) ?? []) rows.push({ key: camera.id, depth: depth + 1, camera });
    for (const child of node.children) visit(child, depth + 1);
  };
  for (const root of tree?.roots ?? []) {
    count(root);
    visit(root, 0);
  }
  // a camera of a site that we may not see stands by itself
  for (const camera of cameras) {
    if (tree?.byId.has(camera.site_id) !== true) rows.push({ key: camera.id, depth: 0, camera });
  }
  return rows;
}

/** Cameras at or below a site (null: everywhere) whose name, id or site has the words, in the order of the tree. */
export function chosenCameras(
  cameras: readonly Camera[],
  tree: SiteTree | null,
  site: string | null,
  search: string,
): Camera[] {
  const needle = search.trim().toLowerCase();
  const below = new Set<string>();
  const add = (node: SiteNode | undefined) => {
    if (node === undefined) return;
    below.add(node.id);
    node.children.forEach(add);
  };
  if (site !== null) add(tree?.byId.get(site));
  const order = new Map(tree?.ordered.map((node, index) => [node.id, index]) ?? []);
  const place = (camera: Camera) => order.get(camera.site_id) ?? Number.MAX_SAFE_INTEGER;
  return cameras
    .filter((camera) => site === null || camera.site_id === site || below.has(camera.site_id))
    .filter((camera) => `${camera.name} ${camera.id} ${camera.site_name}`.toLowerCase().includes(needle))
    .sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name, "zh-CN"));
}

/** The site tree as the pages use it: order, depth and the way down to a site. Pure. */

import type { Link } from "@/api/links";
import type { Site } from "@/api/sites";

export interface SiteNode extends Site {
  depth: number;
  /** Names from the top down to this site. */
  path: string[];
  /** The link to the site above, if there is one. */
  uplink: Link | null;
  children: SiteNode[];
}

export interface SiteTree {
  roots: SiteNode[];
  /** Depth first, siblings by name. */
  ordered: SiteNode[];
  byId: Map<string, SiteNode>;
}

/** A site whose parent is not visible to us stands at the top; a loop in bad data is cut. */
export function buildSiteTree(sites: readonly Site[], links: readonly Link[] = []): SiteTree {
  const uplinks = new Map(links.map((link) => [link.lower_site_id, link]));
  const byId = new Map<string, SiteNode>(
    sites.map((site) => [site.id, { ...site, depth: 0, path: [], uplink: uplinks.get(site.id) ?? null, children: [] }]),
  );
  const ordered: SiteNode[] = [];
  const seen = new Set<string>();
  const below = (parent: string | null) =>
    [...byId.values()]
      .filter((node) => (parent === null ? isTop(node, byId) : node.parent_id === parent))
      .sort((a, b) => a.name.localeCompare(b.name, "zh-CN"));
  const visit = (node: SiteNode, depth: number, path: string[]) => {
    if (seen.has(node.id)) return;
    seen.add(node.id);
    node.depth = depth;
    node.path = [...path, node.name];
    ordered.push(node);
    node.children = below(node.id).filter((child) => !seen.has(child.id));
    for (const child of node.children) visit(child, depth + 1, node.path);
  };
  const roots = below(null);
  for (const root of roots) visit(root, 0, []);
  for (const node of byId.values()) {
    if (seen.has(node.id)) continue;
    roots.push(node);
    visit(node, 0, []);
  }
  return { roots, ordered, byId };
}

function isTop(node: Site, byId: Map<string, SiteNode>): boolean {
  return node.parent_id === null || node.parent_id === node.id || !byId.has(node.parent_id);
}

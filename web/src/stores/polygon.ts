/** The geometry of a zone: points in 0..1 of the picture. Pure. */

import type { Point } from "@/api/rules";

const DIGITS = 10_000;
export const MAX_POINTS = 32;

const inside = (value: number) => Math.round(Math.min(1, Math.max(0, value)) * DIGITS) / DIGITS;

export const clamped = ([x, y]: Point): Point => [inside(x), inside(y)];

export function moved(zone: readonly Point[], index: number, to: Point): Point[] {
  return zone.map((point, at) => (at === index ? clamped(to) : point));
}

/** The whole polygon by (dx, dy), held within the picture without losing its shape. */
export function shifted(zone: readonly Point[], dx: number, dy: number): Point[] {
  const room = (delta: number, axis: 0 | 1) => {
    const values = zone.map((point) => point[axis]);
    return Math.min(1 - Math.max(...values), Math.max(-Math.min(...values), delta));
  };
  const [x, y] = [room(dx, 0), room(dy, 1)];
  return zone.map((point) => clamped([point[0] + x, point[1] + y]));
}

export function inserted(zone: readonly Point[], after: number, point: Point): Point[] {
  return zone.length >= MAX_POINTS ? [...zone] : zone.toSpliced(after + 1, 0, clamped(point));
}

export const removed = (zone: readonly Point[], index: number): Point[] => zone.toSpliced(index, 1);

/** Half way along each side, where another point may be drawn out. */
export function middles(zone: readonly Point[]): Point[] {
  return zone.map(([x, y], index) => {
    const [nextX, nextY] = zone[(index + 1) % zone.length] ?? [x, y];
    return [(x + nextX) / 2, (y + nextY) / 2];
  });
}

/** Twice the signed area of the corner at b: which way a, b, c turn. */
const turn = (a: Point, b: Point, c: Point) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);

function cross(a: Point, b: Point, c: Point, d: Point): boolean {
  return turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0;
}

/** Whether two sides cross: such a zone has no clear inside. */
export function crossesItself(zone: readonly Point[]): boolean {
  const sides = zone.map((point, index) => [point, zone[(index + 1) % zone.length] ?? point] as const);
  return sides.some((one, i) => sides.some((other, j) => j > i && cross(one[0], one[1], other[0], other[1])));
}

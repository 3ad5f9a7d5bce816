"""Draws a flamegraph: `perf script` output on standard input, SVG on standard output.

Frames are as wide as the share of samples that they are in, the outermost at the bottom; a click does nothing, hovering
tells the frame's name and share. Needs Python alone.
"""

import html
import re
import sys

WIDTH, ROW, LEAST = 1200, 17, 0.15  # pixels, pixels, percent below which a frame is not drawn


def short(name: str) -> str:
    """A Rust path without its hash and generic arguments."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    while "<" in name[1:] and (cut := re.sub(r"(?<!^)<[^<>]*>", "", name)) != name:
        name = cut
    return name


def stacks(lines):
    """Each sample's frames, outermost first."""
    frames = []
    for line in lines:
        if not line.strip():
            if frames:
                yield frames[::-1]
            frames = []
        elif match := re.match(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \(([^()]*)\)$", line):
            name = short(match[1])
            kernel = "kernel" in match[2]
            frames.append((name if name != "[unknown]" else match[2].rsplit("/", 1)[-1], kernel))
    if frames:
        yield frames[::-1]


class Node:
    def __init__(self):
        self.samples, self.below = 0, {}


def main():
    title = sys.argv[1]
    root = Node()
    for frames in stacks(sys.stdin):
        # What stands below the worker's own entry is the thread's start, the same for all.
        begin = next((n for n, (name, _) in enumerate(frames) if "Worker::run" in name or "worker::" in name), 0)
        node = root
        node.samples += 1
        for frame in frames[begin:]:
            node = node.below.setdefault(frame, Node())
            node.samples += 1
    if not root.samples:
        sys.exit("no samples of the worker")
    boxes, deepest = [], 0
    todo = [(root, 0.0, -1)]
    while todo:
        node, left, depth = todo.pop()
        for (name, kernel), below in sorted(node.below.items()):
            share = 100 * below.samples / root.samples
            if share >= LEAST:
                boxes.append((name, kernel, left, share, depth + 1))
                deepest = max(deepest, depth + 1)
                todo.append((below, left, depth + 1))
            left += share
    height = (deepest + 3) * ROW
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">')
    print(f'<text x="4" y="13">{html.escape(title)} ({root.samples} samples)</text>')
    for name, kernel, left, share, depth in boxes:
        x, width = left * WIDTH / 100, share * WIDTH / 100
        y = height - (depth + 1) * ROW
        crypto = "aes" in name or "gcm" in name or "chacha" in name
        colour = "#7aa6c2" if kernel else "#c9a227" if crypto else "#d9774a"
        text = html.escape(name)
        shown = html.escape(name[: int(width / 6.7)]) if width > 20 else ""
        print(
            f'<g><title>{text}: {share:.1f} %</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" '
            f'height="{ROW - 1}" fill="{colour}"/><text x="{x + 2:.1f}" y="{y + 12}">{shown}</text></g>'
        )
    print("</svg>")


if __name__ == "__main__":
    main()

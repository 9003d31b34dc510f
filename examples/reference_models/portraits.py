"""Draw procedural portraits: the training set of the two reference generators.

Every picture follows from one seed and a table of factors, so that no photograph and no real person
is involved. Shapes are signed distances in a square of side 2 whose y axis points down, painted
with an edge about one pixel wide.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE: Final = 64
"""Pixels along one side of a portrait."""

Factors = Mapping[str, Tensor]

UNIFORM: Final[dict[str, tuple[float, float]]] = {
    # Background.
    "bg_hue": (0.0, 1.0),
    "bg_hue_step": (-0.22, 0.22),
    "bg_saturation": (0.08, 0.5),
    "bg_value": (0.3, 0.97),
    "bg_value_step": (-0.3, 0.3),
    "bg_angle": (-math.pi, math.pi),
    "bg_offset": (-0.5, 0.5),
    "bg_hardness": (0.0, 1.0),
    **{f"blob{i}_x": (-1.1, 1.1) for i in range(2)},
    **{f"blob{i}_y": (-1.1, 0.7) for i in range(2)},
    **{f"blob{i}_radius": (0.15, 0.65) for i in range(2)},
    **{f"blob{i}_hue": (-0.2, 0.2) for i in range(2)},
    **{f"blob{i}_value": (-0.25, 0.25) for i in range(2)},
    **{f"blob{i}_alpha": (0.1, 0.85) for i in range(2)},
    **{f"blob{i}_softness": (0.05, 0.4) for i in range(2)},
    # Pose and head.
    "pose_x": (-0.12, 0.12),
    "pose_y": (-0.08, 0.08),
    "pose_roll": (-0.16, 0.16),
    "pose_yaw": (-0.13, 0.13),
    "pose_pitch": (-0.06, 0.06),
    "pose_scale": (1.12, 1.34),
    "head_width": (0.36, 0.46),
    "head_height": (0.49, 0.58),
    "head_power": (2.0, 2.6),
    "head_jaw": (-0.2, 0.06),
    "head_chin": (-0.08, 0.1),
    "head_cheek": (-0.03, 0.07),
    "ear_size": (0.09, 0.14),
    "ear_y": (-0.02, 0.12),
    "neck_width": (0.2, 0.29),
    # Skin and light.
    "skin_tone": (0.0, 1.0),
    "skin_red": (-1.0, 1.0),
    "skin_yellow": (-1.0, 1.0),
    "light_x": (-1.0, 1.0),
    "light_y": (-0.9, 0.25),
    "light_depth": (0.12, 0.5),
    "light_warmth": (-1.0, 1.0),
    "light_level": (0.88, 1.08),
    "blush": (0.0, 0.5),
    "blush_y": (0.08, 0.2),
    # Eyes and brows.
    "eye_y": (-0.1, 0.03),
    "eye_spacing": (0.155, 0.21),
    "eye_width": (0.085, 0.125),
    "eye_open": (0.035, 0.075),
    "eye_open_skew": (-0.012, 0.012),
    "eye_tilt": (-0.24, 0.12),
    "eye_gaze_x": (-0.045, 0.045),
    "eye_gaze_y": (-0.018, 0.018),
    "eye_iris": (0.045, 0.062),
    "eye_hue": (0.0, 1.0),
    "eye_value": (0.22, 0.75),
    "eye_lid": (0.008, 0.026),
    "eye_shadow": (0.0, 0.45),
    "brow_gap": (0.1, 0.16),
    "brow_length": (0.08, 0.125),
    "brow_thickness": (0.012, 0.032),
    "brow_tilt": (-0.12, 0.3),
    "brow_arch": (0.0, 4.0),
    "brow_skew": (-0.025, 0.025),
    "brow_dark": (0.35, 0.9),
    # Nose and mouth.
    "nose_length": (0.16, 0.25),
    "nose_width": (0.05, 0.095),
    "nose_shade": (0.15, 0.6),
    "nose_light": (0.1, 0.5),
    "mouth_y": (0.29, 0.36),
    "mouth_width": (0.1, 0.19),
    "mouth_curve": (-0.4, 4.2),
    "mouth_skew": (-0.1, 0.1),
    "mouth_upper": (0.018, 0.04),
    "mouth_lower": (0.025, 0.055),
    "mouth_open": (-0.05, 0.045),
    "mouth_red": (0.0, 1.0),
    "mouth_value": (0.0, 1.0),
    # Hair.
    "hair_tone": (0.0, 1.0),
    "hair_red": (-0.8, 0.8),
    "hair_grey": (-1.2, 1.0),
    "hair_dye": (-8.0, 1.0),
    "hair_dye_hue": (0.0, 1.0),
    "hair_volume": (0.02, 0.17),
    "hair_top": (0.0, 0.16),
    "hair_length_left": (-0.35, 0.95),
    "hair_length_skew": (-0.25, 0.25),
    "hair_width": (0.0, 0.14),
    "hair_line": (-0.4, -0.24),
    "hair_part": (-0.22, 0.22),
    "hair_fringe_left": (-0.3, 3.2),
    "hair_fringe_right": (-0.3, 3.2),
    "hair_wave": (0.0, 0.055),
    "hair_wave_count": (4.0, 13.0),
    "hair_wave_phase": (-math.pi, math.pi),
    "hair_strands": (0.0, 0.24),
    "hair_strand_count": (9.0, 20.0),
    "hair_strand_phase": (-math.pi, math.pi),
    "hair_gloss": (0.0, 0.5),
    "hair_gloss_y": (-0.5, -0.3),
    "hair_sparse": (-7.0, 1.0),
    # Beard, glasses, hat, earrings: negative amounts mean "none", so that most people wear none.
    "beard": (-2.6, 1.2),
    "beard_line": (0.12, 0.33),
    "beard_depth": (0.0, 0.1),
    "moustache": (-3.2, 1.2),
    "moustache_size": (0.025, 0.05),
    "glasses": (-3.0, 1.3),
    "glasses_size": (0.12, 0.155),
    "glasses_round": (0.3, 1.0),
    "glasses_rim": (0.009, 0.024),
    "glasses_hue": (0.0, 1.0),
    "glasses_value": (0.05, 0.6),
    "glasses_tint": (-0.5, 0.55),
    "hat": (-6.0, 1.2),
    "hat_hue": (0.0, 1.0),
    "hat_value": (0.2, 0.9),
    "hat_line": (-0.3, -0.2),
    "hat_height": (0.06, 0.24),
    "hat_band": (0.05, 0.12),
    "hat_brim": (-0.3, 0.12),
    "earring": (-4.0, 1.0),
    "earring_hue": (0.05, 0.2),
    # Clothes.
    "cloth_hue": (0.0, 1.0),
    "cloth_saturation": (0.05, 0.8),
    "cloth_value": (0.15, 0.95),
    "cloth_width": (0.7, 1.02),
    "cloth_top": (0.62, 0.76),
    "cloth_slope": (0.08, 0.32),
    "cloth_power": (2.0, 3.4),
    "neck_depth": (0.02, 0.3),
    "neck_round": (0.0, 1.0),
    "neck_open": (0.22, 0.36),
    "collar_width": (-0.06, 0.1),
    "collar_hue": (-0.5, 0.5),
    "collar_value": (0.1, 1.0),
    "stripe_depth": (-0.4, 0.4),
    "stripe_count": (3.0, 9.0),
    "stripe_angle": (-math.pi / 2, math.pi / 2),
    "stripe_phase": (-math.pi, math.pi),
}
"""Every factor of variation and the range it is drawn from, evenly."""


def sample_factors(count: int, generator: torch.Generator) -> Factors:
    """Draw `count` sets of factors, each value of shape (B, 1, 1)."""
    drawn = torch.rand(len(UNIFORM), count, 1, 1, generator=generator)
    ranges = zip(UNIFORM.items(), drawn, strict=True)
    return {name: low + (high - low) * unit for (name, (low, high)), unit in ranges}


def hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert to RGB; arguments (B, 1, 1), result (B, 3, 1, 1)."""
    offset = torch.tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    k = (offset + hue.unsqueeze(1) * 6.0) % 6.0
    ramp = torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)
    return value.clamp(0.0, 1.0).unsqueeze(1) * (
        1.0 - saturation.clamp(0.0, 1.0).unsqueeze(1) * ramp
    )


def rgb(*values: float) -> Tensor:
    """Make one colour of shape (1, 3, 1, 1)."""
    return torch.tensor(values).view(1, 3, 1, 1)


def mix(a: Tensor, b: Tensor, amount: Tensor) -> Tensor:
    """Blend from `a` to `b`; `amount` (B, ...) without the colour axis."""
    return a + (b - a) * amount.unsqueeze(1)


def ramp(stops: Tensor, position: Tensor) -> Tensor:
    """Interpolate linearly along colour `stops` (N, 3) at `position` in [0, 1], (B, 1, 1)."""
    scaled = position.flatten().clamp(0.0, 1.0) * (len(stops) - 1)
    left = scaled.floor().clamp(max=len(stops) - 2).long()
    weight = (scaled - left).unsqueeze(1)
    return (stops[left] * (1.0 - weight) + stops[left + 1] * weight)[:, :, None, None]


def disc(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Approximate the signed distance to an ellipse centred at the origin."""
    reach = torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-9)
    slope = torch.sqrt((x / width**2) ** 2 + (y / height**2) ** 2 + 1e-6)
    return reach * (reach - 1.0) / slope


def bar(x: Tensor, y: Tensor, half: Tensor | float, radius: Tensor | float) -> Tensor:
    """Return the signed distance to a horizontal capsule."""
    excess = (x.abs() - half).clamp(min=0.0)
    return torch.sqrt(excess**2 + y**2 + 1e-9) - radius


def rotate(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Express a point in axes turned by `angle`."""
    c, s = torch.cos(angle), torch.sin(angle)
    return c * x + s * y, c * y - s * x


def soft_step(value: Tensor, width: Tensor | float) -> Tensor:
    """Rise smoothly from 0 to 1 while `value` goes from -width to width."""
    unit = ((value / width) * 0.5 + 0.5).clamp(0.0, 1.0)
    return unit * unit * (3.0 - 2.0 * unit)


def presence(amount: Tensor) -> Tensor:
    """Map a signed amount to an opacity: none below 0, whole above 0.5."""
    return soft_step(amount - 0.25, 0.25)


@dataclass(slots=True)
class Canvas:
    """Pictures being painted from back to front."""

    pixels: Tensor
    """(B, 3, H, W), 0 to 1."""
    edge: float
    """Half the width of a soft edge."""

    def paint(
        self,
        distance: Tensor,
        colour: Tensor,
        alpha: Tensor | float = 1.0,
        softness: Tensor | float = 0.0,
    ) -> None:
        """Lay `colour` (B, 3, 1 or H, 1 or W) where `distance` (B, H, W) is negative."""
        cover = soft_step(-distance, self.edge + softness) * alpha
        self.pixels = mix(self.pixels, colour, cover)


@dataclass(frozen=True, slots=True)
class Scene:
    """What every layer needs: factors, axes and the colours derived from the factors."""

    f: Factors
    page_x: Tensor
    page_y: Tensor
    x: Tensor
    """Head axes: shifted, turned and scaled with the pose."""
    y: Tensor
    face_x: Tensor
    """Face axes: head axes moved by yaw and pitch."""
    face_y: Tensor
    skin: Tensor
    hair: Tensor
    head: Tensor
    """Signed distance to the head's outline."""


SKIN_STOPS: Final = torch.tensor(
    [
        [0.98, 0.86, 0.77],
        [0.94, 0.76, 0.63],
        [0.84, 0.62, 0.46],
        [0.68, 0.46, 0.32],
        [0.50, 0.33, 0.23],
        [0.34, 0.22, 0.16],
    ]
)
HAIR_STOPS: Final = torch.tensor(
    [
        [0.09, 0.07, 0.07],
        [0.20, 0.12, 0.08],
        [0.38, 0.23, 0.13],
        [0.60, 0.41, 0.22],
        [0.86, 0.70, 0.42],
    ]
)


def skin_colour(f: Factors) -> Tensor:
    """Pick a skin colour (B, 3, 1, 1)."""
    base = ramp(SKIN_STOPS, f["skin_tone"])
    red = f["skin_red"].unsqueeze(1) * rgb(0.03, -0.012, -0.012)
    yellow = f["skin_yellow"].unsqueeze(1) * rgb(0.006, 0.012, -0.03)
    return (base + red + yellow).clamp(0.0, 1.0)


def hair_colour(f: Factors) -> Tensor:
    """Pick a hair colour (B, 3, 1, 1): natural, grey, or now and then dyed."""
    base = ramp(HAIR_STOPS, f["hair_tone"] * (1.0 - 0.65 * f["skin_tone"]))
    base = mix(base, base * rgb(1.2, 0.82, 0.66), f["hair_red"].clamp(min=0.0))
    grey = rgb(0.74, 0.73, 0.73) * (0.75 + 0.25 * f["hair_tone"].unsqueeze(1))
    base = mix(base, grey, presence(f["hair_grey"] - 0.45) * 0.9)
    one = torch.ones_like(f["hair_tone"])
    dyed = hsv(f["hair_dye_hue"], 0.65 * one, 0.35 + 0.45 * f["hair_tone"])
    return mix(base, dyed, presence(f["hair_dye"])).clamp(0.0, 1.0)


def head_distance(f: Factors, x: Tensor, y: Tensor) -> Tensor:
    """Return an approximate signed distance to the head's outline."""
    along = (y / f["head_height"]).clamp(-1.3, 1.3)
    lower = along.clamp(min=0.0)
    cheek = f["head_cheek"] * torch.exp(-(((along - 0.35) / 0.35) ** 2))
    width = f["head_width"] * (1.0 + f["head_jaw"] * lower - f["head_chin"] * lower**3 + cheek)
    power = f["head_power"]
    scaled = (x.abs() / width + 1e-6) ** power + (y.abs() / f["head_height"] + 1e-6) ** power
    return (scaled ** (1.0 / power) - 1.0) * width


def page_axes(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Return x and y of the pixel centres, (B, H, W)."""
    line = (torch.arange(side) + 0.5) * (2.0 / side) - 1.0
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x.expand(count, -1, -1), y.expand(count, -1, -1)


def make_scene(f: Factors, side: int) -> Scene:
    """Derive axes and colours from the factors."""
    page_x, page_y = page_axes(len(f["pose_x"]), side)
    x, y = rotate(page_x - f["pose_x"], page_y + 0.1 - f["pose_y"], f["pose_roll"])
    x, y = x / f["pose_scale"], y / f["pose_scale"]
    face_x, face_y = x - f["pose_yaw"], y - f["pose_pitch"]
    head = head_distance(f, x, y)
    return Scene(f, page_x, page_y, x, y, face_x, face_y, skin_colour(f), hair_colour(f), head)


def background_colour(f: Factors, hue: Tensor, value: Tensor) -> Tensor:
    """Shift the background's main colour."""
    return hsv(
        (f["bg_hue"] + hue) % 1.0, f["bg_saturation"], (f["bg_value"] + value).clamp(0.12, 1.0)
    )


def paint_background(canvas: Canvas, s: Scene) -> None:
    """Paint a gradient or two tones, and soft round shapes."""
    f = s.f
    near = background_colour(f, f["bg_hue_step"] * 0.0, f["bg_value_step"] * 0.0)
    far = background_colour(f, f["bg_hue_step"], f["bg_value_step"])
    across, _ = rotate(s.page_x, s.page_y, f["bg_angle"])
    width = 0.05 + 1.2 * (1.0 - f["bg_hardness"]) ** 2
    canvas.pixels = mix(near, far, soft_step(across - f["bg_offset"], width))
    for i in range(2):
        x, y = s.page_x - f[f"blob{i}_x"], s.page_y - f[f"blob{i}_y"]
        distance = torch.sqrt(x**2 + y**2) - f[f"blob{i}_radius"]
        colour = background_colour(f, f[f"blob{i}_hue"], f[f"blob{i}_value"])
        canvas.paint(distance, colour, f[f"blob{i}_alpha"], f[f"blob{i}_softness"])


def hair_shade(s: Scene) -> Tensor:
    """Colour the hair with strands and a gloss band, (B, 3, H, W)."""
    f = s.f
    angle = torch.atan2(s.x - f["hair_part"] * 0.5, 1.1 + s.y)
    strands = torch.sin(angle * f["hair_strand_count"] + f["hair_strand_phase"])
    gloss = torch.exp(-(((s.head.abs() * 0.5 + s.y - f["hair_gloss_y"]) / 0.07) ** 2))
    side = 0.5 * f["light_depth"] * (s.x * f["light_x"] + s.y * f["light_y"])
    shade = 1.0 + f["hair_strands"] * strands + side * 1.5
    lit = s.hair * shade.unsqueeze(1)
    return mix(lit, torch.ones_like(lit), f["hair_gloss"] * gloss * 0.55).clamp(0.0, 1.0)


def hair_wave(s: Scene) -> Tensor:
    """Ripple the outline of the hair, (B, H, W)."""
    f = s.f
    angle = torch.atan2(s.x, -s.y - 0.2)
    return f["hair_wave"] * torch.sin(f["hair_wave_count"] * angle + f["hair_wave_phase"])


def hair_presence(s: Scene) -> Tensor:
    """Return 0 for the few bald heads, else 1."""
    return 1.0 - presence(s.f["hair_sparse"])


def paint_back_hair(canvas: Canvas, s: Scene) -> None:
    """Paint the hair behind head and shoulders."""
    f = s.f
    skew = torch.where(s.x < 0, -1.0, 1.0) * f["hair_length_skew"]
    bottom = (f["hair_length_left"] + skew).clamp(min=-0.3)
    reach = f["head_width"] + 0.5 * f["hair_volume"] + f["hair_width"] * (s.y + 0.4).clamp(0.0, 1.0)
    sides = torch.maximum(s.x.abs() - reach, s.y - bottom)
    sides = torch.maximum(sides, -0.25 - s.y)
    crown = disc(
        s.x,
        s.y + 0.1,
        f["head_width"] + 0.5 * f["hair_volume"],
        f["head_height"] - 0.1 + f["hair_top"],
    )
    distance = torch.minimum(sides, torch.maximum(crown, s.y - bottom.clamp(min=0.1)))
    colour = hair_shade(s) * 0.78
    canvas.paint(distance + hair_wave(s), colour, hair_presence(s), 0.02)


def paint_neck(canvas: Canvas, s: Scene) -> None:
    """Paint the neck, darker under the chin."""
    f = s.f
    x = s.page_x - f["pose_x"] * 0.8
    spread = f["neck_width"] + 0.25 * (s.page_y - 0.55).clamp(min=0.0)
    distance = torch.maximum(x.abs() - spread, 0.1 - s.page_y)
    shadow = 1.0 - (0.22 + 0.4 * f["light_depth"]) * soft_step(0.18 - s.head, 0.2)
    canvas.paint(distance, s.skin * (0.94 * shadow).unsqueeze(1))


def cloth_colour(s: Scene) -> Tensor:
    """Colour the clothes, plain or striped, shaded to the sides, (B, 3, H, W)."""
    f = s.f
    base = hsv(f["cloth_hue"], f["cloth_saturation"], f["cloth_value"])
    along, _ = rotate(s.page_x, s.page_y, f["stripe_angle"])
    depth = soft_step(f["stripe_depth"] - 0.15, 0.15) * 0.6
    wave = 0.5 + 0.5 * torch.sin(along * f["stripe_count"] * math.pi + f["stripe_phase"])
    fold = 1.0 - 0.35 * (s.page_x - 0.25 * f["light_x"]) ** 2
    return (base * ((1.0 - depth * wave) * fold).unsqueeze(1)).clamp(0.0, 1.0)


def paint_clothes(canvas: Canvas, s: Scene) -> None:
    """Paint shoulders, neckline and collar."""
    f = s.f
    x = s.page_x - f["pose_x"] * 0.5
    unit = (x.abs() / f["cloth_width"]).clamp(max=1.4)
    top = f["cloth_top"] + f["cloth_slope"] * unit ** f["cloth_power"]
    body = torch.maximum(top - s.page_y, x.abs() - f["cloth_width"] - 0.1 * (s.page_y - 0.8))
    open_width = f["neck_open"] + 0.02
    vee = x.abs() / open_width * f["neck_depth"] - f["neck_depth"]
    curve = (x / open_width) ** 2 * f["neck_depth"] - f["neck_depth"]
    line = f["cloth_top"] - (vee * (1.0 - f["neck_round"]) + curve * f["neck_round"])
    inside = (s.page_y - line) * 0.7
    canvas.paint(torch.maximum(body, -inside - 2.0), s.skin * 0.9)
    cloth = torch.maximum(body, -inside)
    canvas.paint(cloth, cloth_colour(s))
    collar = torch.maximum(cloth, inside - f["collar_width"])
    hue = (f["cloth_hue"] + f["collar_hue"]) % 1.0
    colour = hsv(hue, f["cloth_saturation"] * 0.7, f["collar_value"])
    canvas.paint(collar, colour, (f["collar_width"] * 30.0).clamp(0.0, 1.0))


def lit_skin(s: Scene) -> Tensor:
    """Shade the skin as a rounded form, (B, 3, H, W)."""
    f = s.f
    nx, ny = s.x / f["head_width"], s.y / f["head_height"]
    nz = torch.sqrt((1.0 - 0.8 * (nx**2 + ny**2)).clamp(min=0.04))
    lamp = (nx * f["light_x"] + ny * f["light_y"] + nz) / 1.4
    shade = 1.0 + f["light_depth"] * (lamp - 0.6)
    lit = s.skin * shade.unsqueeze(1)
    for side in (-1.0, 1.0):
        spot = ((s.face_x - side * 0.22) / 0.13) ** 2 + ((s.face_y - f["blush_y"]) / 0.1) ** 2
        lit = mix(lit, lit * rgb(1.08, 0.74, 0.72), f["blush"] * torch.exp(-spot))
    return lit.clamp(0.0, 1.0)


def paint_head(canvas: Canvas, s: Scene) -> None:
    """Paint ears, earrings and the head itself."""
    f = s.f
    lit = lit_skin(s)
    one = torch.ones_like(f["earring"])
    for side in (-1.0, 1.0):
        x = s.x - side * (f["head_width"] + 0.01) + 0.3 * f["pose_yaw"]
        ear = disc(x, s.y - f["ear_y"], f["ear_size"] * 0.62, f["ear_size"])
        canvas.paint(ear, lit * 0.93)
        canvas.paint(ear + 0.035, lit * rgb(0.8, 0.7, 0.68), 0.6, 0.02)
        ring = disc(x, s.y - f["ear_y"] - f["ear_size"] - 0.02, 0.032, 0.038)
        canvas.paint(ring, hsv(f["earring_hue"], 0.5 * one, 0.92 * one), presence(f["earring"]))
    canvas.paint(s.head, lit)


def paint_beard(canvas: Canvas, s: Scene) -> None:
    """Paint beard and moustache, from stubble to full."""
    f = s.f
    x, y = s.face_x, s.face_y
    edge = f["beard_line"] - 1.2 * x**2 + 0.06 - y
    mouth = disc(x, y - f["mouth_y"], f["mouth_width"] + 0.03, 0.055)
    chin = torch.maximum(s.head - f["beard_depth"] * (s.y > 0.2), edge)
    colour = s.hair * (0.86 + 0.1 * torch.sin(22.0 * x)).unsqueeze(1)
    canvas.paint(torch.maximum(chin, -mouth), colour, presence(f["beard"]) * 0.88, 0.025)
    lip = y - f["mouth_y"] + f["mouth_upper"] + f["moustache_size"] - 0.9 * x**2
    moustache = bar(x, lip, f["mouth_width"] * 0.75, f["moustache_size"])
    canvas.paint(moustache, colour, presence(f["moustache"]) * 0.9, 0.012)


def iris_colour(f: Factors) -> Tensor:
    """Pick an eye colour (B, 3, 1, 1): brown, hazel, green, blue or grey."""
    stops = torch.tensor(
        [
            [0.22, 0.12, 0.07],
            [0.36, 0.20, 0.09],
            [0.48, 0.36, 0.16],
            [0.30, 0.48, 0.30],
            [0.26, 0.47, 0.66],
            [0.50, 0.58, 0.64],
        ]
    )
    return ramp(stops, f["eye_hue"]) * (0.6 + 0.7 * f["eye_value"].unsqueeze(1))


def paint_eye(canvas: Canvas, s: Scene, side: float) -> None:
    """Paint one eye: shadow, white, iris, pupil, glint and lid."""
    f = s.f
    x = s.face_x - side * f["eye_spacing"]
    x, y = rotate(x, s.face_y - f["eye_y"], side * f["eye_tilt"])
    open_ = (f["eye_open"] + side * f["eye_open_skew"]) * 1.15
    width = f["eye_width"] * 1.05
    bulge = open_ * (1.0 - (x / width) ** 2)
    white = torch.maximum(-bulge - y, y - bulge * 0.8) * 0.85
    shadow = disc(x, y + 0.02, width * 1.25, open_ + 0.05)
    canvas.paint(shadow, s.skin * rgb(0.66, 0.56, 0.56), f["eye_shadow"], 0.05)
    canvas.paint(white, rgb(0.96, 0.95, 0.94))
    gaze_x, gaze_y = x - f["eye_gaze_x"], y - f["eye_gaze_y"]
    iris = torch.sqrt(gaze_x**2 + gaze_y**2 + 1e-9) - f["eye_iris"]
    canvas.paint(torch.maximum(iris, white), iris_colour(f))
    canvas.paint(torch.maximum(iris + 0.03, white), rgb(0.05, 0.04, 0.05), 0.9)
    glint = torch.sqrt((gaze_x + 0.02) ** 2 + (gaze_y + 0.02) ** 2 + 1e-9) - 0.014
    canvas.paint(torch.maximum(glint, white), rgb(1.0, 1.0, 1.0), 0.8)
    lid = torch.maximum((y + bulge).abs() - f["eye_lid"], x.abs() - width * 1.05)
    canvas.paint(lid, s.skin * 0.22, 0.9)


def paint_brow(canvas: Canvas, s: Scene, side: float) -> None:
    """Paint one eyebrow."""
    f = s.f
    x = s.face_x - side * f["eye_spacing"] * 1.04
    y = s.face_y - f["eye_y"] + f["brow_gap"] + side * f["brow_skew"]
    x, y = rotate(x, y, side * f["brow_tilt"])
    taper = f["brow_thickness"] * (1.0 - 2.0 * (side * x).clamp(-0.05, 0.2))
    stroke = bar(x, y + 0.03 - f["brow_arch"] * (x**2), f["brow_length"], taper)
    canvas.paint(stroke, s.hair * 0.75, f["brow_dark"] + 0.1)


def paint_nose(canvas: Canvas, s: Scene) -> None:
    """Paint the nose by its shadow side, its light ridge and its nostrils."""
    f = s.f
    lean = s.face_x - 0.35 * f["pose_yaw"]
    y = s.face_y - f["eye_y"]
    dark, tip = s.skin * rgb(0.62, 0.52, 0.5), f["nose_length"]
    side = torch.where(f["light_x"] > 0, -1.0, 1.0)
    width = f["nose_width"] * (0.35 + 0.55 * (y / tip).clamp(0.0, 1.0))
    ridge = torch.maximum(
        (lean - side * width * 0.8).abs() - 0.018, (y - tip * 0.55).abs() - tip * 0.4
    )
    canvas.paint(ridge, dark, f["nose_shade"] * 0.7, 0.035)
    canvas.paint(disc(lean, y - tip, f["nose_width"], 0.04), dark, f["nose_shade"] * 0.8, 0.03)
    light = disc(lean, y - tip * 0.75, f["nose_width"] * 0.4, tip * 0.35)
    canvas.paint(light, (s.skin * 1.15 + 0.06).clamp(0.0, 1.0), f["nose_light"], 0.03)
    for nostril in (-1.0, 1.0):
        hole = disc(lean - nostril * f["nose_width"] * 0.6, y - tip - 0.012, 0.022, 0.014)
        canvas.paint(hole, s.skin * rgb(0.35, 0.25, 0.24), 0.75)


def paint_mouth(canvas: Canvas, s: Scene) -> None:
    """Paint lips, and teeth where the mouth is open."""
    f = s.f
    x = s.face_x - 0.15 * f["pose_yaw"]
    y = s.face_y - f["mouth_y"] + f["mouth_curve"] * (x**2 - 0.4 * f["mouth_width"] ** 2)
    y = y + f["mouth_skew"] * x
    unit = (1.0 - (x / f["mouth_width"]) ** 2).clamp(min=-1.0)
    gap = f["mouth_open"].clamp(min=0.0) * unit
    natural = s.skin * rgb(0.88, 0.58, 0.56)
    painted = hsv(
        0.97 * torch.ones_like(f["mouth_red"]),
        0.35 + 0.4 * f["mouth_red"],
        0.45 + 0.4 * f["mouth_value"],
    )
    lip = mix(natural, painted, 0.2 + 0.7 * f["mouth_red"] ** 2)
    upper = torch.maximum(-y - gap - f["mouth_upper"] * unit, y - gap)
    lower = torch.maximum(y - gap - f["mouth_lower"] * unit, -y - gap)
    canvas.paint(upper, lip * 0.86)
    canvas.paint(lower, lip)
    canvas.paint(
        y.abs() - gap,
        mix(rgb(0.3, 0.08, 0.08), rgb(0.97, 0.95, 0.92), (gap * 30.0).clamp(0.0, 1.0)),
        (gap * 60.0).clamp(0.0, 1.0),
    )
    seam = torch.maximum((y - gap).abs() - 0.009, x.abs() - f["mouth_width"] * 1.02)
    canvas.paint(seam, natural * 0.4, 0.75)


def paint_front_hair(canvas: Canvas, s: Scene) -> None:
    """Paint the hair over the forehead and along the temples."""
    f = s.f
    x = s.x - f["hair_part"]
    fall = torch.where(x < 0, f["hair_fringe_left"], f["hair_fringe_right"])
    line = f["hair_line"] + fall * x**2 + 0.7 * hair_wave(s) + 0.5 * s.f["pose_pitch"]
    line = torch.minimum(line, f["eye_y"] - 0.13 + 1.6 * (x.abs() - 0.12).clamp(min=0.0))
    cap = disc(
        s.x,
        s.y + 0.02,
        f["head_width"] + 0.6 * f["hair_volume"] + 0.01,
        f["head_height"] + f["hair_top"],
    )
    cap = cap + hair_wave(s)
    temple = (s.x.abs() - f["head_width"] * 0.86) * 2.2
    distance = torch.maximum(cap, torch.minimum(s.y - line, torch.maximum(-temple, s.y - 0.02)))
    canvas.paint(distance, hair_shade(s), hair_presence(s), 0.012)


def paint_glasses(canvas: Canvas, s: Scene) -> None:
    """Paint rims, bridge, temples and a slight tint."""
    f = s.f
    alpha = presence(f["glasses"])
    colour = hsv(f["glasses_hue"], 0.5 * torch.ones_like(alpha), f["glasses_value"])
    y = s.face_y - f["eye_y"] - 0.015
    corner = f["glasses_size"] * 0.82 * f["glasses_round"]
    for side in (-1.0, 1.0):
        x = s.face_x - side * (f["eye_spacing"] + 0.02)
        qx = (x.abs() - f["glasses_size"] + corner).clamp(min=0.0)
        qy = (y.abs() - f["glasses_size"] * 0.82 + corner).clamp(min=0.0)
        lens = torch.sqrt(qx**2 + qy**2 + 1e-9) - corner
        canvas.paint(lens, colour, alpha * f["glasses_tint"].clamp(min=0.0))
        canvas.paint(lens.abs() - f["glasses_rim"], colour, alpha)
        arm = torch.maximum(
            (y + 0.03).abs() - 0.014, f["glasses_size"] + f["eye_spacing"] + 0.02 - side * s.face_x
        )
        canvas.paint(torch.maximum(arm, s.head), colour, alpha)
    bridge = bar(
        s.face_x,
        y + 0.02 - s.face_x**2,
        f["eye_spacing"] - f["glasses_size"] + 0.02,
        f["glasses_rim"],
    )
    canvas.paint(bridge, colour, alpha)


def paint_hat(canvas: Canvas, s: Scene) -> None:
    """Paint a cap with a band."""
    f = s.f
    alpha = presence(f["hat"])
    one = torch.ones_like(alpha)
    colour = hsv(f["hat_hue"], 0.55 * one, f["hat_value"])
    fold = 1.0 + 0.5 * f["light_depth"] * (s.x * f["light_x"] * 1.5 - 0.3)
    line = f["hat_line"] + 0.12 * s.x**2
    width = f["head_width"] + 0.5 * f["hair_volume"] + 0.035
    top = torch.maximum(
        disc(s.x, s.y + 0.1, width, f["head_height"] - 0.1 + f["hat_height"]), s.y - line
    )
    canvas.paint(top, (colour * fold.unsqueeze(1)).clamp(0.0, 1.0), alpha)
    band = torch.maximum(
        (s.y - line + f["hat_band"] * 0.5).abs() - f["hat_band"],
        s.x.abs() - width - f["hat_brim"].clamp(min=0.0),
    )
    canvas.paint(band, (colour * (0.75 * fold).unsqueeze(1)).clamp(0.0, 1.0), alpha)


def grade(canvas: Canvas, s: Scene) -> Tensor:
    """Apply the colour and level of the light, and return (B, 3, H, W) in [-1, 1]."""
    warmth = 1.0 + s.f["light_warmth"].unsqueeze(1) * rgb(0.05, 0.0, -0.06)
    glow = 1.0 + 0.08 * (s.page_x * s.f["light_x"] + s.page_y * s.f["light_y"])
    lit = canvas.pixels * warmth * (s.f["light_level"] * glow).unsqueeze(1)
    return lit.clamp(0.0, 1.0) * 2.0 - 1.0


def draw(f: Factors, side: int = SIDE, oversample: int = 1) -> Tensor:
    """Draw one portrait for each set of factors, (B, 3, side, side) float32 in [-1, 1]."""
    fine = side * oversample
    scene = make_scene(f, fine)
    canvas = Canvas(torch.zeros(len(f["pose_x"]), 3, fine, fine), 1.2 / fine)
    paint_background(canvas, scene)
    paint_back_hair(canvas, scene)
    paint_neck(canvas, scene)
    paint_clothes(canvas, scene)
    paint_head(canvas, scene)
    paint_nose(canvas, scene)
    for side_ in (-1.0, 1.0):
        paint_eye(canvas, scene, side_)
    paint_beard(canvas, scene)
    paint_mouth(canvas, scene)
    paint_front_hair(canvas, scene)
    for side_ in (-1.0, 1.0):
        paint_brow(canvas, scene, side_)
    paint_glasses(canvas, scene)
    paint_hat(canvas, scene)
    return torch.nn.functional.avg_pool2d(grade(canvas, scene), oversample)


def to_bytes(images: Tensor) -> Tensor:
    """Quantise images in [-1, 1] to uint8, rounding to nearest."""
    return ((images.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)


def draw_set(count: int, seed: int, batch: int = 25) -> Tensor:
    """Draw `count` portraits from `seed`, (count, 3, SIDE, SIDE) uint8."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, count, batch):
        parts.append(to_bytes(draw(sample_factors(min(batch, count - start), generator))))
    return torch.cat(parts)


def save_grid(images: Tensor, path: Path, columns: int, scale: int = 1) -> None:
    """Save (B, 3, H, W) uint8 images as one PNG, enlarged `scale` times."""
    count, _, height, width = images.shape
    rows = count // columns
    tiles = images[: rows * columns].cpu().view(rows, columns, 3, height, width)
    sheet = tiles.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    picture = Image.fromarray(np.ascontiguousarray(sheet.numpy()))
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(
        path
    )


def main() -> None:
    """Draw a grid of portraits, to look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("portraits.png"))
    arguments = parser.parse_args()
    save_grid(draw_set(arguments.count, arguments.seed), arguments.out, 10, arguments.scale)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""make-pgm.py WHEEL: makes temple-64.pgm beside it from scikit-learn's sklearn/datasets/images/china.jpg: the 384x384 pixels in the
middle, grey, each 6x6 averaged. Needs Pillow."""
import io
import pathlib
import sys
import zipfile

from PIL import Image

if len(sys.argv) != 2:
    sys.exit(__doc__)
with zipfile.ZipFile(sys.argv[1]) as wheel:
    image = Image.open(io.BytesIO(wheel.read("sklearn/datasets/images/china.jpg"))).convert("L")
width, height = image.size
left, top = (width - 384) // 2, (height - 384) // 2
small = image.crop((left, top, left + 384, top + 384)).resize((64, 64), Image.Resampling.BOX)
pathlib.Path(__file__).with_name("temple-64.pgm").write_bytes(b"P5\n64 64\n255\n" + small.tobytes())

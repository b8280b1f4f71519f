"""Prepares the training photos of photos_of_packages.csv: `python docs/photos.py EXTRACTED/ train_hr/`.

They come from the wallpaper packages of Ubuntu and Debian. EXTRACTED holds one folder for each package of the list,
named after it: `apt-get download PACKAGE && dpkg-deb -x PACKAGE_*.deb EXTRACTED/PACKAGE`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
from tqdm import tqdm

from generators.atomic import atomic_write

LIST = Path(__file__).with_name("photos_of_packages.csv")
LONGER_SIDE = 2040
"""At most so many pixels, as in DIV2K."""
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def prepare(source: Path, target: Path) -> None:
    """Shrink a photo to half its size or less, which takes demosaicing, blur and JPEG blocks away."""
    photo = cv2.imread(str(source))
    if photo is None:
        raise SystemExit(f"{source} is not the photo of the list: take the package of the version there")
    factor = min(0.5, LONGER_SIDE / max(photo.shape[:2]))
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    with atomic_write(target) as partial:
        partial.write_bytes(cv2.imencode(".jpg", small, JPEG)[1])


def main(extracted: str, output: str) -> None:
    """Prepare the photos of the list that the folder lacks, of the packages that are there."""
    with LIST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = sorted({row["package"] for row in rows if not Path(extracted, row["package"]).is_dir()})
    for row in tqdm([row for row in rows if row["package"] not in missing], unit="photo"):
        target = Path(output, row["file"])
        if not target.exists():
            prepare(Path(extracted, row["package"], row["path"]), target)
    if missing:
        print(f"left out, since {extracted} has no folder of them: {', '.join(missing)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extracted", help="folder of the extracted packages, one folder for each")
    parser.add_argument("output", help="folder to write the photos to")
    arguments = parser.parse_args()
    main(arguments.extracted, arguments.output)

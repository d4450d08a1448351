"""Things that arrive and cannot be learned from, each under the name it is made with, and what is said of them."""

import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "a,b,c,d,e,label\n"
LINE = "0.1,0.2,0.3,0.4,0.5,1\n"
X, Y = np.full((8, 5), 0.5, np.float32), np.arange(8) % 2
CODE = "the code in a pickle has run"


def csv(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def data(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def arrays(**named) -> Callable[[Path], None]:
    def write(path):
        with path.open("wb") as file:  # np.savez would add a suffix
            np.savez(file, **named)

    return write


def claim(shape: str) -> Callable[[Path], None]:
    """An archive whose array is said to have a shape, and has 8 bytes."""

    def write(path):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
        head += b" " * (-(len(head) + 11) % 64) + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(8))
            archive.writestr("y.npy", _npy(Y))

    return write


def bomb(path: Path, mega: int = 600) -> None:
    """Some kB that are `mega` MB of zeros."""
    head = _npy(np.zeros((mega * 50_000, 5), np.float32)[:0]).split(b"\n")[0]
    shape = head.replace(b"(0, 5)", b"(%d, 5)" % (mega * 50_000)).rstrip()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            file.write(shape.ljust(len(head)) + b"\n")
            for _ in range(mega):
                file.write(bytes(1_000_000))
        archive.writestr("y.npy", _npy(np.zeros(mega * 50_000, np.int64)))


def method(path: Path) -> None:
    """An archive packed in a way that nobody knows."""
    arrays(x=X, y=Y)(path)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(mark)
        while at >= 0:
            content[at + place : at + place + 2] = struct.pack("<H", 77)
            at = content.find(mark, at + 1)
    path.write_bytes(content)


def locked(path: Path) -> None:
    """An archive that asks for a password."""
    arrays(x=X, y=Y)(path)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(mark, at + 1)
    path.write_bytes(content)


class _Code:
    def __reduce__(self):
        return print, (CODE,)


def code(path: Path) -> None:
    arrays(x=np.array([_Code()] * 8, object), y=Y)(path)


def bound(path: Path) -> None:
    """A socket; its name is short wherever it lies."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def pictures(path: Path) -> Path:
    for kind in ("0", "1"):
        (path / kind).mkdir(parents=True)
        Image.new("L", (5, 4), 7).save(path / kind / "1.png")
    return path / "0"


def with_fifo(path: Path) -> None:
    os.mkfifo(pictures(path) / "2.png")


def with_circle(path: Path) -> None:
    (pictures(path) / "again").symlink_to(path)


def with_broken(path: Path) -> None:
    (pictures(path) / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))


def with_giant(path: Path) -> None:
    """A picture that says it has 10^10 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (pictures(path) / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b""))


def deep(path: Path) -> None:
    bottom = path / "/".join(["a"] * 300)
    bottom.mkdir(parents=True)
    (bottom / "1.png").write_bytes(b"deep")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# what it is called: how it is made at a path, and a pattern of what is said of it
POISONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "digits.csv": (csv(HEADER + "9" * 400 + ",1,1,1,1,0\n" + LINE * 9), "OverflowError|NaN or an infinity|not numeric"),
    "longer.csv": (csv(HEADER + "9" * 5000 + ",1,1,1,1,0\n" + LINE * 9), "."),
    "label.csv": (csv(HEADER + LINE * 4 + f"1,1,1,1,1,{'9' * 400}\n" * 4), "."),
    "columns.csv": (csv("a,b,c,d,f,label\n" + LINE * 9), "expected columns a, b, c, d, e, as before; .*lacks e; has f"),
    "more.csv": (csv("a,b,c,d,e,f,label\n" + "1,1,1,1,1,1,0\n" * 9), "has f beside them"),
    "gap.csv": (csv(HEADER + LINE * 4 + "1,,1,1,1,0\n"), "NaN or an infinity in 'b'"),
    "word.csv": (csv(HEADER + LINE * 4 + "1,one,1,1,1,0\n"), "column 'b' is not numeric"),
    "empty.csv": (csv(""), "cannot be read as csv"),
    "header.csv": (csv(HEADER), "is empty"),
    "bytes.csv": (data(bytes(range(256)) * 40), "cannot be read"),
    "sparse.csv": (sparse, "has 1e.03 GB, and an arrival may take 0.25"),
    "claim.npz": (claim("(500000000000, 5)"), "tells of 10 TB"),
    "minus.npz": (claim("(-1, 5)"), "cannot be read"),
    "bomb.npz": (bomb, "needs more than 0.25 GB of memory; divide it, or allow more with folder"),
    "method.npz": (method, "compression|method"),
    "locked.npz": (locked, "password"),
    "code.npz": (code, "Python objects"),
    "torn.npz": (data(b"PK\x03\x04 torn"), "cannot be read as a .npz"),
    "nothing.npz": (arrays(), "expected an array 'x'"),
    "shape.npz": (arrays(x=X[:, :3], y=Y), r"expected samples of shape \(5,\)"),
    "kind.npz": (arrays(x=X.astype(np.uint8), y=Y), "got .* uint8"),
    "hollow.npz": (arrays(x=X[:, :0], y=Y), "hold no number"),
    "none.npz": (arrays(x=X[:0], y=Y[:0]), "is empty"),
    "nan.npz": (arrays(x=X * np.nan, y=Y), "NaN or an infinity"),
    "room.npz": (arrays(x=X, y=Y + 7), "room for 4 classes"),
    "large.npz": (arrays(x=X, y=Y.astype(np.uint64) + 2**63), r"below 2\^63"),
    "text.npz": (arrays(x=X, y=np.where(Y, "up", "down")), "labels of .* are texts"),
    "one.npz": (arrays(x=X[:2], y=Y[:2]), "no class with two samples"),
    "blown.npz": (arrays(x=X * np.float32(1e30), y=Y), "smaller learning rate"),
    "torn.parquet": (data(b"PAR1" + bytes(90) + b"PAR1"), "cannot be read"),
    "circle.csv": (lambda path: path.symlink_to(path), "a link that leads to nothing, or to itself"),
    "nowhere.csv": (lambda path: path.symlink_to(path.with_name("gone")), "a link that leads to nothing"),
    "endless.csv": (lambda path: path.symlink_to("/dev/zero"), "it is a device; expected a file"),
    "fifo.csv": (os.mkfifo, "it is a FIFO; expected a file"),
    "fifo.npz": (os.mkfifo, "it is a FIFO; expected a file"),
    "socket.npz": (bound, "it is a socket; expected a file"),
    "itself": (lambda path: path.symlink_to(path.parent), "."),
    "nobody": (Path.mkdir, "expected a folder per class"),
    "fifos": (with_fifo, "2.png is a FIFO; expected a file"),
    "circles": (with_circle, "is a link to a folder, which is not followed"),
    "broken": (with_broken, "is not a readable picture"),
    "giant": (with_giant, "is not a readable picture"),
    "deep": (deep, "."),
    "note.txt": (csv("hello"), "expected .npz, .csv, .parquet or a folder"),
    os.fsdecode(b"n\xe4me\x1b[31m\n.npz"): (data(b"no"), r"n\\xe4me\\x1b\[31m\\n.npz cannot be read as a .npz"),
}

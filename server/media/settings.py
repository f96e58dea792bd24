"""The limits of the media path. Defaults live here once; units are in the names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """What may be fetched and decoded. Everything that widens access is off by default."""

    allowed_media_domains: tuple[str, ...] = ()  # exact hosts; empty: every public host
    allowed_media_networks: tuple[str, ...] = ()  # CIDR ranges allowed though not public
    allowed_local_media_path: str | None = None  # folder that file: URLs may read
    allow_avif: bool = False
    exact_resize: bool = False  # JPEGs too are cut to tiles by Pillow
    num_decoders: int = 2  # decoder processes
    max_bytes_in_flight: int = 512 << 20  # of media, all requests together
    max_request_bytes: int = 128 << 20  # of one request's media
    max_request_pixels: int = 160_000_000  # of one request's media
    max_image_bytes: int = 20 << 20
    max_video_bytes: int = 100 << 20
    max_image_pixels: int = 40_000_000
    max_image_side: int = 16_384
    max_aspect_ratio: int = 200
    max_jpeg_scans: int = 64
    max_video_pixels: int = 4096 * 4096
    max_video_frames: int = 20_000  # decoded, not sampled
    max_video_duration_s: float = 3_600.0
    max_sampled_frames: int = 128
    max_redirects: int = 3
    max_connections: int = 64
    max_connections_per_host: int = 8
    dns_timeout_s: float = 2.0
    connect_timeout_s: float = 3.0
    image_fetch_timeout_s: float = 15.0
    video_fetch_timeout_s: float = 60.0
    image_decode_timeout_s: float = 15.0
    video_decode_timeout_s: float = 45.0
    decoder_memory_bytes: int = 1536 << 20
    tile_cache_bytes: int = 256 << 20  # decoded tiles kept for repeated media

    def max_bytes(self, kind: str) -> int:
        return self.max_image_bytes if kind == "image" else self.max_video_bytes

    def fetch_timeout_s(self, kind: str) -> float:
        return self.image_fetch_timeout_s if kind == "image" else self.video_fetch_timeout_s

    def decode_timeout_s(self, kind: str) -> float:
        return self.image_decode_timeout_s if kind == "image" else self.video_decode_timeout_s

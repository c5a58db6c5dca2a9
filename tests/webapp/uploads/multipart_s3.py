"""The S3 of tests with multipart uploads: parts of at least 5 MiB but the last, by number, made one when asked."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.webapp.test_storage import BUCKET, FakeS3, _in_chunks, _plain

LEAST = 5 << 20


class MultipartS3(FakeS3):
    """Also takes objects in parts, and copies."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, dict[int, bytes]] = {}  # of uploads that are neither complete nor aborted
        self.largest_request = 0
        self._begun = 0
        base: Any = self.server.RequestHandlerClass
        bucket = self

        class Handler(base):
            def asked(self) -> dict[str, str]:
                query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
                return {key: value[0] for key, value in query.items()}

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                bucket.largest_request = max(bucket.largest_request, len(data))
                return _plain(data) if _in_chunks(self.headers) else data

            def lost(self) -> None:
                self.answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")

            def do_POST(self) -> None:  # noqa: N802
                key, asked = self.key(), self.asked()
                if "uploads" in asked:
                    bucket._begun += 1
                    name = f"upload-{bucket._begun}"
                    bucket.parts[name] = {}
                    self.answer(200, f"<R><UploadId>{name}</UploadId></R>".encode())
                    return
                wanted = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", self.body())]
                held = bucket.parts.pop(asked["uploadId"], None)
                if held is None:
                    self.lost()
                elif any(len(held[number]) < LEAST for number in wanted[:-1]):
                    self.answer(400, b"<Error><Code>EntityTooSmall</Code></Error>")
                else:
                    bucket.objects[key] = b"".join(held[number] for number in wanted)
                    self.answer(200, b"<R><ETag>0</ETag></R>")

            def do_PUT(self) -> None:  # noqa: N802
                asked = self.asked()
                source = self.headers.get("x-amz-copy-source")
                if source:
                    found = bucket.objects.get(unquote(source).removeprefix(f"{BUCKET}/"))
                    if found is None:
                        self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                        return
                    bucket.objects[self.key()] = found
                    self.answer(200, b"<CopyObjectResult><ETag>0</ETag></CopyObjectResult>")
                elif "partNumber" in asked:
                    bucket.asked.append(f"PUT {self.path}")
                    data, held = self.body(), bucket.parts.get(asked["uploadId"])
                    if held is None:
                        self.lost()
                        return
                    held[int(asked["partNumber"])] = data
                    self.answer(200)
                else:
                    super().do_PUT()

            def do_GET(self) -> None:  # noqa: N802
                asked = self.asked()
                if "uploadId" not in asked:
                    super().do_GET()
                elif (held := bucket.parts.get(asked["uploadId"])) is None:
                    self.lost()
                else:  # two an answer, as the listing of objects
                    after = int(asked.get("part-number-marker") or 0)
                    numbers = [number for number in sorted(held) if number > after]
                    told = "".join(
                        f"<Part><PartNumber>{n}</PartNumber><Size>{len(held[n])}</Size>"
                        f"<ETag>{hashlib.md5(held[n]).hexdigest()}</ETag></Part>"
                        for n in numbers[:2]
                    )
                    more = str(len(numbers) > 2).lower()
                    last = numbers[1] if len(numbers) > 1 else 0
                    self.answer(
                        200,
                        f"<R><IsTruncated>{more}</IsTruncated>"
                        f"<NextPartNumberMarker>{last}</NextPartNumberMarker>{told}</R>".encode(),
                    )

            def do_DELETE(self) -> None:  # noqa: N802
                asked = self.asked()
                if "uploadId" not in asked:
                    super().do_DELETE()
                elif bucket.parts.pop(asked["uploadId"], None) is None:
                    self.lost()
                else:
                    self.answer(204)

        self.server.RequestHandlerClass = Handler

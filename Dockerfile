# Every command on CPUs; without arguments, the service. Build: docker build -t emotivetalk .
#
#   docker run --rm --network host --shm-size 2g -v emotivetalk:/data emotivetalk
#   docker run --rm -v "$PWD:/work" --user "$(id -u)" emotivetalk generate --portrait me.png --audio hello.wav -o hello.mp4
#
# The default configuration listens on loopback and admits everybody, hence the host's network. To publish a port, mount a
# configuration with host 0.0.0.0 and gateway.tokens_file, and name it: `... emotivetalk serve /srv/serve.yaml`.
FROM python:3.11-slim AS build
ARG EXTRAS=text,serve
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/emotivetalk
COPY . /src
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/emotivetalk/bin/pip install --extra-index-url "$TORCH_INDEX" -c /src/constraints.txt "/src[$EXTRAS]"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 emotivetalk \
    && install -d -o emotivetalk /data /work
COPY --from=build /opt/emotivetalk /opt/emotivetalk
ENV PATH=/opt/emotivetalk/bin:$PATH PYTHONUNBUFFERED=1 EMOTIVETALK_DATA=/data OMP_WAIT_POLICY=PASSIVE
USER emotivetalk
WORKDIR /work
VOLUME /data
EXPOSE 8000 9000
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["emotivetalk"]
CMD ["serve"]

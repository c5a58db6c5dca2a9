# One image for web, worker and dispatcher: docker-compose.yml says which command each runs.
FROM python:3.12-slim AS environment
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml constraints.txt ./
COPY tools/environment.py tools/
ENV TUNEBOARD_ENVIRONMENTS=/opt/tuneboard TUNEBOARD_EXTRAS=training,starters PIP_NO_CACHE_DIR=1
RUN python tools/environment.py && ln -s "$(readlink -f .venv)" /opt/tuneboard/current

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 tuneboard && install -d -o tuneboard /data
WORKDIR /app
COPY --from=environment /opt/tuneboard /opt/tuneboard
COPY --chown=tuneboard . .
USER tuneboard
ENV PATH=/opt/tuneboard/current/bin:$PATH PYTHONUNBUFFERED=1 TUNEBOARD_HOME=/data TUNEBOARD_BIND=0.0.0.0
EXPOSE 8000
CMD ["python", "manage.py", "serve"]

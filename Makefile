# Thin: the work is in scripts/.
.PHONY: build producer consumer test dev.psql demo bench

build:
	cargo build --release

producer consumer:
	@[ -n "$$KAFKA_SERVER" ] || eval "$$(scripts/services env)"; cargo run -- --role $@

test:
	scripts/test

demo:
	scripts/demo

bench:
	scripts/bench

dev.psql:
	@[ -n "$$POSTGRES_URL" ] || eval "$$(scripts/services env)"; psql "$$POSTGRES_URL"

# Thin: the work is in scripts/.
.PHONY: build producer consumer test dev.psql demo

build:
	cargo build --release

producer consumer:
	@[ -n "$$KAFKA_SERVER" ] || eval "$$(scripts/services env)"; cargo run -- --role $@

test:
	scripts/test

demo:
	scripts/demo

dev.psql:
	@[ -n "$$POSTGRES_URL" ] || eval "$$(scripts/services env)"; psql "$$POSTGRES_URL"

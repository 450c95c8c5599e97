# Thin: the work is in scripts/.
.PHONY: bootstrap build dev.build producer consumer test demo bench dev.psql

# All that development needs: packages, running services, settings, a build.
bootstrap: .env
	scripts/packages --services
	scripts/services up
	$(MAKE) dev.build

# Yours once it is there.
.env:
	cp .env.example $@

build:
	cargo build --release

dev.build:
	cargo build

producer consumer: .env
	cargo run -- --role $@

test:
	scripts/test

demo:
	scripts/demo

bench:
	scripts/bench

dev.psql: .env
	psql "$${POSTGRES_URL:-$$(sed -n "s/^POSTGRES_URL=//p" .env | tr -d "'\"")}"

"""Statements that would write, read a file, reach the network, or tell what is hidden, if they were let.

``{out}`` is a path where no file may appear, ``{canary}`` a file whose words must not be told, ``{port}`` a port of
this machine where nobody may call.
"""

from __future__ import annotations

WRITES = """
INSERT INTO cities VALUES (9, 'x', NULL)
UPDATE people SET name = 'x'
DELETE FROM orders
DROP TABLE orders
DROP VIEW tall
ALTER TABLE cities ADD COLUMN x INTEGER
CREATE TABLE new_one AS SELECT * FROM people
CREATE INDEX new_index ON people (name)
CREATE VIEW new_view AS SELECT 1 AS x
SELECT 1; DROP TABLE orders
SELECT 1; DELETE FROM orders; SELECT 2
; DELETE FROM orders
SELECT * FROM people; -- ; DELETE FROM orders
COMMIT
BEGIN
ROLLBACK
VACUUM
ANALYZE
REINDEX
EXPLAIN ANALYZE DELETE FROM orders
WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone
WITH made AS (INSERT INTO cities VALUES (9, 'x', NULL) RETURNING *) SELECT * FROM made
SELECT * INTO new_one FROM people
SELECT * FROM people FOR UPDATE
MERGE INTO cities USING people ON cities.id = people.id WHEN MATCHED THEN DELETE
TRUNCATE TABLE orders
GRANT ALL ON people TO PUBLIC
"""
HIDDEN_READS = """
SELECT password FROM people
SELECT p.password FROM people p
SELECT people.password FROM people
SELECT "password" FROM people WHERE "password" LIKE 'h%'
SELECT PassWord FROM PEOPLE
SELECT * FROM people
SELECT p.* FROM people p
SELECT * FROM (SELECT * FROM people) x
SELECT x.* FROM (SELECT p.* FROM people p) x
WITH x AS (SELECT * FROM people) SELECT * FROM x
WITH people AS (SELECT * FROM people) SELECT * FROM people
WITH x(a, b, c, d, e, f, g) AS (SELECT * FROM people) SELECT c FROM x
SELECT c FROM (SELECT * FROM people) x(a, b, c, d, e, f, g)
SELECT x.c FROM people AS x(a, b, c, d, e, f, g)
SELECT name FROM people UNION SELECT password FROM people
SELECT id, name FROM people UNION ALL SELECT * FROM people
SELECT * FROM people EXCEPT SELECT * FROM people WHERE id = 1
SELECT name FROM people ORDER BY password
SELECT name FROM people ORDER BY lower(password)
SELECT name, count(*) FROM people GROUP BY name, password
SELECT max(password) FROM people
SELECT count(*) FROM people WHERE password LIKE 'h%'
SELECT count(*) FILTER (WHERE password LIKE 'h%') FROM people
SELECT count(DISTINCT password) FROM people
SELECT CASE WHEN password = 'hunter2' THEN 1 END FROM people
SELECT (SELECT password FROM people LIMIT 1)
SELECT (SELECT password) FROM people
SELECT name FROM people WHERE EXISTS (SELECT 1 FROM orders WHERE password = 'hunter2')
SELECT o.order_no FROM orders o JOIN people p ON p.password = o.note
SELECT o.order_no FROM (orders o JOIN people p ON p.password = o.note)
SELECT o.order_no FROM orders o JOIN people p USING (password)
SELECT * FROM people a NATURAL JOIN people b
SELECT a.id FROM people a JOIN people b USING (id, password)
SELECT 1 AS password FROM people GROUP BY password
SELECT 1 AS password FROM people ORDER BY password
SELECT 1 AS password FROM people HAVING password > 'a'
SELECT people FROM people
SELECT p FROM people p
SELECT CAST(p AS TEXT) FROM people p
SELECT p::text FROM people p
SELECT (p).password FROM people p
SELECT (p).* FROM people p
SELECT p.*::text FROM people p
SELECT row_to_json(p) FROM people p
SELECT to_jsonb(p) FROM people p
SELECT json_agg(p) FROM people p
SELECT to_json(people) FROM people
SELECT array_agg(p) FROM people p
SELECT list(p) FROM people p
SELECT p['password'] FROM people p
SELECT struct_extract(p, 'password') FROM people p
SELECT concat(p) FROM people p
SELECT COLUMNS('pass.*') FROM people
SELECT COLUMNS(*) FROM people
SELECT * LIKE 'pass%' FROM people
SELECT * RENAME (password AS pw) FROM people
SELECT * REPLACE (password AS name) FROM people
SELECT #3 FROM people
SELECT unnest(p) FROM people p
SELECT sum(1) OVER (PARTITION BY password) FROM people
SELECT row_number() OVER w FROM people WINDOW w AS (ORDER BY password)
SELECT name FROM people QUALIFY row_number() OVER (ORDER BY password) = 1
SELECT DISTINCT ON (password) name FROM people
SELECT string_agg(name, ',' ORDER BY password) FROM people
SELECT mode() WITHIN GROUP (ORDER BY password) FROM people
SELECT name FROM people p, LATERAL (SELECT password) q
SELECT q.* FROM people p JOIN LATERAL (SELECT p.password) q ON true
SELECT name FROM people GROUP BY ROLLUP (name, password)
SELECT * FROM people PIVOT (count(*) FOR password IN ('hunter2'))
FROM people
FROM people SELECT password
TABLE people
VALUES ((SELECT password FROM people LIMIT 1))
SELECT * FROM salaries
SELECT s.salary FROM salaries s
SELECT salary FROM main.salaries
SELECT salary FROM public.salaries
SELECT name FROM people WHERE id IN (SELECT person_id FROM salaries)
SELECT name FROM people WHERE id IN salaries
SELECT name FROM people WHERE id IN "salaries"
SELECT name FROM people WHERE id IN 'salaries'
SELECT id FROM people WHERE 'hunter2' IN "people"
SELECT * FROM people JOIN salaries ON true
WITH salaries AS (SELECT * FROM salaries) SELECT * FROM salaries
WITH a AS (SELECT * FROM b), b AS (SELECT * FROM salaries) SELECT * FROM a
SELECT 'salaries'::regclass
SELECT * FROM query('SELECT * FROM salaries')
SELECT * FROM query_table('salaries')
SELECT query_to_xml('SELECT * FROM salaries', true, true, '')
SELECT table_to_xml('people', true, true, '')
SELECT * FROM information_schema.columns
SELECT * FROM pg_catalog.pg_stats
SELECT most_common_vals FROM pg_stats
SELECT * FROM sqlite_master
SELECT * FROM sqlite_schema
SELECT * FROM pragma_table_info('people')
SELECT * FROM duckdb_columns()
SELECT * FROM pragma_storage_info('people')
SELECT * FROM pragma_table_info('salaries')
SHOW TABLES
DESCRIBE people
SUMMARIZE people
PRAGMA table_info(people)
SELECT ctid, xmin, tableoid FROM people
SELECT rowid FROM people
SELECT password.x FROM people
SELECT date_trunc(password, born) FROM people
SELECT EXTRACT(password FROM born) FROM people
SELECT name COLLATE password FROM people
SELECT list_transform([1], x -> password) FROM people
SELECT [password FOR x IN [1]] FROM people
SELECT /*+ x */ password FROM people
SELECT/**/password/**/FROM/**/people
"""
OUTSIDE = """
COPY people TO '{out}'
COPY (SELECT 1) TO '{out}'
COPY people TO PROGRAM 'touch {out}'
COPY people FROM '{canary}'
COPY people FROM PROGRAM 'touch {out}'
EXPORT DATABASE '{out}'
ATTACH '{out}'
ATTACH '{out}' AS other
ATTACH DATABASE '{out}' AS other
VACUUM INTO '{out}'
INSTALL httpfs
LOAD httpfs
LOAD '{out}'
SELECT * FROM read_text('{canary}')
SELECT * FROM read_csv('{canary}')
SELECT * FROM read_blob('{canary}')
SELECT * FROM read_json('{canary}')
SELECT * FROM read_parquet('{canary}')
SELECT * FROM '{canary}'
SELECT * FROM "{canary}"
SELECT * FROM glob('/*')
SELECT * FROM sniff_csv('{canary}')
SELECT * FROM read_csv('http://127.0.0.1:{port}/x')
SELECT * FROM 'http://127.0.0.1:{port}/x.csv'
SELECT * FROM sqlite_scan('{canary}', 'x')
SELECT * FROM postgres_scan('host=127.0.0.1 port={port}', 'public', 'x')
SELECT dblink_connect('host=127.0.0.1 port={port}')
SELECT * FROM dblink('host=127.0.0.1 port={port}', 'select 1') AS t(x int)
SELECT pg_read_file('{canary}')
SELECT pg_read_binary_file('{canary}')
SELECT pg_ls_dir('/')
SELECT * FROM pg_ls_dir('/')
SELECT pg_stat_file('{canary}')
SELECT lo_import('{canary}')
SELECT lo_export(1, '{out}')
SELECT lo_from_bytea(0, 'x')
SELECT pg_file_write('{out}', 'x', false)
SELECT readfile('{canary}')
SELECT writefile('{out}', 'x')
SELECT load_extension('{out}')
SELECT edit('x')
SELECT fts3_tokenizer('x')
SELECT getenv('PATH')
SELECT set_config('session_preload_libraries', 'x', false)
SELECT set_config('transaction_read_only', 'off', false)
SELECT set_config('statement_timeout', '0', false)
SELECT current_setting('config_file')
SELECT pg_reload_conf()
SELECT pg_terminate_backend(1)
SELECT pg_notify('x', 'y')
SELECT pg_advisory_lock(1)
SELECT nextval('people_id_seq')
SET statement_timeout = 0
SET transaction_read_only = off
SET ROLE admin
SET SESSION AUTHORIZATION admin
SET threads = 64
SET memory_limit = '100GB'
SET enable_external_access = true
SET lock_configuration = false
SET disabled_optimizers = ''
RESET ALL
DISCARD ALL
PRAGMA writable_schema = ON
PRAGMA query_only = OFF
PRAGMA journal_mode = DELETE
PRAGMA temp_store_directory = '/tmp'
PRAGMA enable_profiling = 'json'
CALL pragma_version()
CALL force_checkpoint()
CREATE TEMP TABLE t AS SELECT 1
CREATE MACRO m() AS 1
CREATE SECRET (TYPE S3)
CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE c
CREATE EXTENSION dblink
DO $$ BEGIN DELETE FROM orders; END $$
DO $$ BEGIN COMMIT; DELETE FROM orders; COMMIT; END $$
PREPARE p AS DELETE FROM orders
EXECUTE p
DECLARE c CURSOR WITH HOLD FOR SELECT 1
LISTEN x
LOCK TABLE people
CHECKPOINT
"""


def statements(text: str) -> list[str]:
    """Return the statements of one of these texts."""
    return [line for line in text.strip().splitlines() if line]


ATTACKS = [*statements(WRITES), *statements(HIDDEN_READS), *statements(OUTSIDE)]

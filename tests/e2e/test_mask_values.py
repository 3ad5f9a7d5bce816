"""Values of every type under masks, in every form on the wire: what the client gets is still a value of its type, and shows nothing."""

import pytest
from psycopg import pq
from support.gateway import Gateway
from test_postgres import connect, database, to  # noqa: F401

CARD = "4111111111111111"
# In binary its length is a digit that stands right before the number.
LONG = f"{CARD} jane@example.com" + 20 * "."
# What must not be seen.
SECRETS = [CARD.encode(), b"4111 1111 1111 1111", b"example.com"]
# What detectors do not look at.
UNSEEN = ["bytea"]
JSON = f'{{"pin": 4711, "c": "{CARD}"}}'
PERSON = f"row('{LONG}', 4711, 'x', null)"
# Types, and a value of each.
PLAIN = [
    *((kind, f"'{CARD}'") for kind in ("text", "varchar", "char(20)", "name", "refcursor", "words", "tsquery", "bytea")),
    ('"char"', "'x'"), ("xml", f"'<a>{CARD}</a>'"), ("json", f"'{JSON}'"), ("jsonb", f"'{JSON}'"), ("jsonpath", f"""'$."{CARD}"'"""),
    ("int2", "4711"), ("int4", "47114711"), ("int8", CARD), ("float8", CARD), ("numeric", CARD), ("oid", "47114711"), ("float4", "4711.5"), ("float8", "4711.5"),
    ("numeric", "4711.50"), ("money", "4711.50"), ("bool", "true"), ("bit(12)", "B'101010101010'"), ("varbit", "B'10101'"),
    ("date", "'1985-03-12'"), ("time", "'11:12:13'"), ("timetz", "'11:12:13+02'"), ("timestamp", "'1985-03-12 11:12'"),
    ("timestamptz", "'1985-03-12 11:12'"), ("interval", "'4 days 11:12'"), ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    ("inet", "'10.20.30.40/8'"), ("inet", "'2001:db8::5'"), ("cidr", "'10.20.30.0/24'"), ("cidr", "'2001:db8::/32'"), ("macaddr", "'08:00:2b:01:02:03'"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'"), ("point", "'(4711,4712)'"), ("lseg", "'[(1,2),(3,4)]'"), ("box", "'(1,2),(3,4)'"),
    ("path", "'[(1,2),(3,4)]'"), ("polygon", "'((1,2),(3,4),(5,6))'"), ("circle", "'<(1,2),3>'"), ("pg_lsn", "'4711/4712'"), ("tid", "'(47,12)'"),
    ("xid", "'4711'"), ("xid8", "'4711'"), ("tsvector", f"'{CARD} jane@example.com'"), ("tsvector", f"'{CARD}:4711 jane@example.com:52'"),
    ("int4range", "'[4711,4712)'"), ("int8range", f"'[{CARD},)'"), ("numrange", "'[4711,4712)'"), ("daterange", "'[1985-03-12,1985-03-14)'"),
    ("tsrange", "'[1985-03-12,1985-03-14)'"), ("tstzrange", "'[1985-03-12,1985-03-14)'"), ("int4multirange", "'{[4711,4712),[5000,)}'"),
    ("nummultirange", "'{[4711,4712)}'"), ("datemultirange", "'{[1985-03-12,1985-03-14)}'"), ("textrange", f"'[{CARD},jane@example.com)'"),
    ("textmultirange", f"'{{[{CARD},jane@example.com)}}'"),
]  # fmt: skip
ARRAYS = [
    ("text[]", f"array['{CARD}', null, '{LONG}']"), ("varchar[]", f"array['{CARD}']"), ("name[]", f"array['{CARD}']"), ("words[]", f"array['{CARD}']"),
    ("json[]", f"array['{JSON}']"), ("jsonb[]", f"array['{JSON}']"), ("int4[]", "'{{4711,4712},{4713,4714}}'"), ("int8[]", f"array[{CARD}]"),
    ("numeric[]", "array[4711.5]"), ("date[]", "array['1985-03-12']"), ("bool[]", "array[true]"), ("uuid[]", "array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']"),
    ("int4range[]", "array['[4711,4712)']"), ("int2vector", "'47 12'"), ("oidvector", "'47 12'"), ("bytea[]", f"array['{CARD}']"),
    ("inet[]", "array['10.20.30.40']"), ("text[]", "'{}'"),
]  # fmt: skip
MADE = [
    ("mood", "'jane@example.com'"), ("mood[]", "array['jane@example.com']"), ("person", PERSON), ("person[]", f"array[{PERSON}]"),
    ("family", f"row(array[{PERSON}]::person[], row('{CARD}', 48, null, '1985-03-12')::person)"), ("record", f"row('{LONG}'::text, 4711)"),
    ("record[]", f"array[row('{LONG}'::text, 4711)]"), ("hstore", f"'a=>\"{LONG}\", long_name_of_a_pair=>4711'"), ("citext", f"'{CARD}'"), ("citext[]", f"array['{LONG}']"),
]  # fmt: skip


@pytest.fixture(scope="module")
def masked(database, tmp_path_factory):  # noqa: F811
    """A gateway with a route that masks what comes down, and one that does not."""
    database.server.admin("""
        create type mood as enum ('jane@example.com', 'xxxx@xxxxxxx.xxx', 'jane@xxxxxxx.xxx');
        create domain words as varchar;
        create type person as (name text, salary int4, word varchar, born date);
        create type family as (children person[], head person);
        create type textrange as range (subtype = text, multirange_type_name = textmultirange);
        create extension hstore; create extension citext;
    """)
    sets = [{"name": "all", "detect": ["personal", "keys"], "columns": ["salary"], "members": ["pin"]}]
    route = database.route("masked", mask={"down": ["all"]})
    gateway = Gateway(tmp_path_factory.mktemp("masked"), database.world.config(route, database.route("scram"), mask=sets))
    yield gateway
    assert gateway.stop() == 0


@pytest.mark.parametrize("column", ["salary", "other"])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_a_value_of_every_type_of_postgres_stays_one_and_shows_nothing(masked, to, binary, column):  # noqa: F811
    faults = []
    with connect(to("masked", gateway=masked)) as through, connect(to(gateway=masked)) as plain:
        for kind, literal in [*PLAIN, *ARRAYS, *MADE]:
            cast = literal if "record" in kind else f"{literal}::{kind}"
            sql = f'select {cast} as "{column}", \'mail jane@example.com\' as behind'.encode()
            got, was = (one.pgconn.exec_params(sql, [], result_format=int(binary)) for one in (through, plain))
            value, old = got.get_value(0, 0), was.get_value(0, 0)
            assert len(value) == len(old) and got.get_value(0, 1) == b"mail jane************", kind
            # The server reads it back as a client would; records go nowhere but from it.
            text = value
            if "record" not in kind:
                back = plain.pgconn.exec_params(f"select ($1::{kind})::text".encode(), [value], [was.ftype(0)], [int(binary)])
                if back.status != pq.ExecStatus.TUPLES_OK:
                    faults.append((kind, "is none", back.error_message, old, value))
                    continue
                text = back.get_value(0, 0)
            looked_at = value != b"{}" and (column == "salary" or kind.removesuffix("[]") not in UNSEEN)
            if looked_at and any(secret in text for secret in SECRETS) or column == "salary" and value == old and "{}" not in literal:
                faults.append((kind, "is shown", old, value))
    assert not faults, "\n".join(map(str, faults))


def test_a_column_of_postgres_is_masked_by_the_name_that_a_result_gives_it(masked, database, to):  # noqa: F811
    """The table of the guide."""
    database.server.admin("""
        create table paid (name text, salary int); insert into paid values ('x', 4711);
        create view view_of_paid as select salary as pay from paid; grant select, insert on paid, view_of_paid to public;
        create function all_paid() returns table (salary int) as 'select salary from paid' language sql;
    """)
    hidden = [
        "select salary from paid", "select * from paid", "select p.salary from paid p join paid q using (name)", "select salary from (select * from paid) s",
        "with w as (select salary from paid) select * from w", "select salary::text from paid", "select cast(salary as varchar) from paid",
        "select salary from paid union all select 4712", "insert into paid values ('y', 4712) returning salary", "select * from all_paid()",
        "declare c cursor with hold for select salary from paid; fetch all from c", "prepare p as select salary from paid; execute p",
    ]  # fmt: skip
    shown = [
        "select salary as x from paid", "select pay from view_of_paid", "select max(salary) from paid", "select salary + 0 from paid",
        "select coalesce(salary, 0) from paid", "select 4712 as x union all select salary from paid", "select p from paid p", "select row_to_json(p) from paid p",
    ]  # fmt: skip
    with connect(to("masked", gateway=masked)) as connection:
        for sql, are in [*((sql, True) for sql in hidden), *((sql, False) for sql in shown)]:
            cursor = connection.execute(sql)
            while cursor.nextset():
                pass
            rows = str(cursor.fetchall())
            assert ("47" not in rows) == are, (sql, rows)

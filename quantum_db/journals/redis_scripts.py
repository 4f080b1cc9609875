"""The Lua scripts of the Redis journal: each is one atomic step, and reads all that it checks before it writes.

Every script begins with the same checks. Keys: the format of the journal; of one stream the head (its numbers and their
SHA-1), the records (a Redis stream whose entry ``n-0`` is record n), the snapshot (a list), and the operations that it
remembers (a sorted set of operation id -> answer); last, where a compaction keeps the new snapshot until it is whole. A
stored record is its checksum in eight hexadecimal digits, then its body.

Arguments: the format as it was at opening, the highest epoch and last number that the process has seen, then those of
the step. Answers: a word, then numbers. They need Redis 6.2 or later.
"""

from __future__ import annotations

from typing import Final

REMEMBERED: Final = 1_000
"""Operations of a stream whose repetition is recognised."""
STAGING_S: Final = 3_600
"""How long the parts of an unfinished snapshot stay."""

_CHECKS = """
local format, head, records, snapshot, operations, staging = unpack(KEYS)
if redis.call('GET', format) ~= ARGV[1] then return {'lost'} end
local epoch, last, through, snapshot_records, snapshot_id, begun = 0, 0, 0, 0, '-', '-'
local function digits(number) return string.format('%.0f', number) end
local function sealed()
    local text = digits(epoch) .. ' ' .. digits(last) .. ' ' .. digits(through) .. ' ' .. digits(snapshot_records)
    text = text .. ' ' .. snapshot_id .. ' ' .. begun
    return text .. ' ' .. redis.sha1hex(head .. text)
end
local held = redis.call('GET', head)
if held then
    local form = '^(%d+) (%d+) (%d+) (%d+) (%S+) (%S+) %x+$'
    epoch, last, through, snapshot_records, snapshot_id, begun = held:match(form)
    epoch, last, through = tonumber(epoch), tonumber(last), tonumber(through)
    snapshot_records = tonumber(snapshot_records)
    if not begun or sealed() ~= held then return {'damaged', 'has a head that does not match its checksum'} end
elseif redis.call('EXISTS', records, snapshot, operations) > 0 then
    return {'damaged', 'has records, but no head'}
end
if epoch < tonumber(ARGV[2]) or last < tonumber(ARGV[3]) then return {'lost'} end
local function put_head() redis.call('SET', head, sealed()) end
local function answer(...) return {'ok', epoch, last, through, snapshot_records, snapshot_id, ...} end
local function fenced(writer) return writer ~= '' and tonumber(writer) ~= epoch end
"""

READ: Final = (
    _CHECKS
    + """
-- what, first, last, count: of the records by number, or of the snapshot by position from 0
if ARGV[4] == 'records' then
    return answer(redis.call('XRANGE', records, ARGV[5] .. '-0', ARGV[6] .. '-0', 'COUNT', ARGV[7]))
elseif ARGV[4] == 'snapshot' then
    return answer(redis.call('LRANGE', snapshot, ARGV[5], ARGV[6]))
end
return answer()
"""
)

BEGIN_EPOCH: Final = (
    _CHECKS
    + """
-- operation
if begun ~= ARGV[4] then
    epoch, begun = epoch + 1, ARGV[4]
    put_head()
end
return answer()
"""
)

APPEND: Final = (
    _CHECKS
    + f"""
-- epoch or '', operation, then for each record its checksum without the number, and its body
local nibbles = {{[0] = 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c}}
local function crc32(text, crc)
    crc = bit.bnot(crc)
    for i = 1, #text do
        crc = bit.bxor(crc, text:byte(i))
        crc = bit.bxor(bit.rshift(crc, 4), nibbles[bit.band(crc, 15)])
        crc = bit.bxor(bit.rshift(crc, 4), nibbles[bit.band(crc, 15)])
    end
    return bit.tohex(bit.bnot(crc))
end
local done = redis.call('ZSCORE', operations, ARGV[5])
if done then
    last = tonumber(done)
    return answer()
end
if fenced(ARGV[4]) then return {{'fenced', epoch}} end
local tail = redis.call('XREVRANGE', records, '+', '-', 'COUNT', 1)[1]
if (tail and tail[1] or digits(through) .. '-0') ~= digits(last) .. '-0' then
    return {{'damaged', 'does not end with record ' .. digits(last)}}
end
for i = 6, #ARGV, 2 do
    last = last + 1
    local number = digits(last)
    local stored = crc32('\\0' .. number, tonumber(ARGV[i])) .. ARGV[i + 1]
    redis.call('XADD', records, number .. '-0', 'record', stored)
end
if #ARGV > 5 then
    put_head()
    redis.call('ZADD', operations, digits(last), ARGV[5])
    redis.call('ZREMRANGEBYRANK', operations, 0, -{REMEMBERED + 1})
end
return answer()
"""
)

STAGE: Final = (
    _CHECKS
    + f"""
-- how many snapshot records are staged already, then the next ones
if redis.call('LLEN', staging) == tonumber(ARGV[4]) then
    for i = 5, #ARGV do redis.call('RPUSH', staging, ARGV[i]) end
    redis.call('EXPIRE', staging, {STAGING_S})
end
return answer()
"""
)

COMPACT: Final = (
    _CHECKS
    + """
-- epoch or '', operation, through, number of snapshot records
if snapshot_id == ARGV[5] then return answer() end
if fenced(ARGV[4]) then return {'fenced', epoch} end
local to, count = tonumber(ARGV[6]), tonumber(ARGV[7])
if to > last or to < through or to < math.min(count, 1) then return {'range', last, through} end
if redis.call('LLEN', staging) ~= count then return {'unstaged'} end
redis.call('XLEN', records)
redis.call('UNLINK', snapshot)
if count > 0 then
    redis.call('RENAME', staging, snapshot)
    redis.call('PERSIST', snapshot)
end
redis.call('XTRIM', records, 'MINID', '=', digits(to + 1) .. '-0')
through, snapshot_records, snapshot_id = to, count, ARGV[5]
put_head()
return answer()
"""
)

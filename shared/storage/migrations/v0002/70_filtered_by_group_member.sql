-- Of a mail that another handler of the group has: which one that is. NULL in rows from before, and
-- where the rules of the handler left it out.
ALTER TABLE filtered ADD COLUMN holder bigint;

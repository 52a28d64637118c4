-- Who was refused at their last login by single sign-on, as none of their groups gives rights; they
-- are not enabled then, until a group does or an administrator says so.
ALTER TABLE person ADD COLUMN without_group boolean NOT NULL DEFAULT false;

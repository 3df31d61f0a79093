-- Finds users by a part of their name: every three characters in a row, with two at the end that no name has, so that
-- one or two characters are the beginning of some. Whoever makes a user writes here (`names`): a trigger may not, since
-- the schema is not trusted.

CREATE VIRTUAL TABLE user_names USING fts5 (
    name, content = '', detail = none, columnsize = 0, tokenize = 'trigram case_sensitive 1'
);

CREATE VIRTUAL TABLE user_name_parts USING fts5vocab (user_names, row);

INSERT INTO user_names (rowid, name) SELECT id, name || char(1, 1) FROM users;

//! First names of the people in word problems, from many languages.

/// Names of girls and women.
#[rustfmt::skip]
pub(super) const FEMALE: &[&str] = &[
    "Amara", "Ana", "Anjali", "Astrid", "Ayşe", "Beatriz", "Carmen", "Chiara", "Clara", "Dilnoza", "Elif", "Emma",
    "Esther", "Fatima", "Freya", "Gabriela", "Hana", "Hannah", "Ines", "Ingrid", "Isabel", "Jin", "Kavya", "Keiko",
    "Lakshmi", "Leila", "Lina", "Linh", "Lucía", "Mai", "Maria", "Marta", "Mei", "Mercy", "Mina", "Nadia", "Naledi",
    "Nia", "Noor", "Olga", "Paula", "Priya", "Rosa", "Ruth", "Sakura", "Salma", "Sana", "Sofia", "Tala", "Thandi",
    "Wanjiru", "Yara", "Yuki", "Zainab", "Zofia", "Zuzana",
];

/// Names of boys and men.
#[rustfmt::skip]
pub(super) const MALE: &[&str] = &[
    "Ahmed", "Aleksander", "Andrés", "Arjun", "Babak", "Bilal", "Björn", "Carlos", "Chidi", "Daniel", "Deniz", "Diego",
    "Emeka", "Farid", "Felix", "George", "Giovanni", "Hamza", "Haruto", "Hiroshi", "Ibrahim", "Ivan", "Jabari", "Jakub",
    "James", "João", "Jun", "Karim", "Kofi", "Kwame", "Lars", "Leo", "Liam", "Luca", "Mateo", "Mehmet", "Miguel",
    "Minh", "Nikhil", "Omar", "Oscar", "Pablo", "Pavel", "Rafael", "Rahul", "Ravi", "Samuel", "Sergio", "Sipho",
    "Tariq", "Thomas", "Tomás", "Viktor", "Wei", "Yusuf", "Zoltan",
];

//! First names of the people in stories, from many languages; none is part of another.

/// The names, in order.
#[rustfmt::skip]
pub(super) const NAMES: &[&str] = &[
    "Abebe", "Adaeze", "Adriana", "Agneta", "Aiko", "Akira", "Alejandro", "Alistair", "Alma", "Aminata", "Anders",
    "Anneke", "Antonio", "Anwar", "Apinya", "Arjun", "Asha", "Aurelio", "Ayesha", "Azadeh", "Baptiste", "Baraka",
    "Beatriz", "Bente", "Bogdan", "Boris", "Brigita", "Bronwyn", "Bunmi", "Busisiwe", "Camila", "Carlos", "Catarina",
    "Cecilia", "Chidi", "Chiyo", "Chloe", "Ciaran", "Claudia", "Cormac", "Dagmar", "Daichi", "Damir", "Daria",
    "Deepika", "Demba", "Deniz", "Diego", "Dilnoza", "Dmitri", "Dolores", "Doruk", "Edgar", "Efua", "Eirik",
    "Ekaterina", "Elif", "Emeka", "Enrique", "Erzsi", "Esra", "Fabian", "Farid", "Fatou", "Felipe", "Ferhat",
    "Filippa", "Fiona", "Folake", "Frieda", "Gabor", "Galina", "Gaston", "Ghazal", "Gideon", "Giulia", "Greta",
    "Guillermo", "Gulnara", "Gökhan", "Habiba", "Hamza", "Haruto", "Hedda", "Heidi", "Henrik", "Hideo", "Hiroshi",
    "Hortense", "Huda", "Ibrahim", "Ikaika", "Ilse", "Imani", "Ines", "Ingrid", "Irina", "Isidro", "Iskander",
    "Jabari", "Jacinta", "Jakub", "Jamila", "Javier", "Jelena", "Jiho", "Joaquin", "Jomo", "Jorunn", "Jovana",
    "Juhani", "Kaapo", "Kamal", "Karima", "Kavya", "Keiko", "Kelechi", "Kerem", "Kjersti", "Kofi", "Kwame", "Lakshmi",
    "Larissa", "Lasse", "Latifa", "Leilani", "Lerato", "Leszek", "Linh", "Lorenzo", "Lourdes", "Ludmila", "Lwazi",
    "Magdalena", "Makoto", "Malik", "Manuela", "Marek", "Mbali", "Meera", "Mehmet", "Miguel", "Minh", "Mirela",
    "Moana", "Mustafa", "Nadia", "Naledi", "Nasrin", "Ngozi", "Niamh", "Nikolai", "Niloufar", "Nkechi", "Nyambura",
    "Octavio", "Odalys", "Olek", "Olga", "Omar", "Oriol", "Osagie", "Oumar", "Pablo", "Paloma", "Parvati", "Pedro",
    "Petra", "Pilar", "Piotr", "Priya", "Qadira", "Qiang", "Quentin", "Rafael", "Rashida", "Ravindra", "Ricardo",
    "Rohan", "Roksana", "Rustam", "Sabela", "Sadia", "Saoirse", "Sauli", "Selma", "Senait", "Sigrid", "Siobhan",
    "Sipho", "Soraya", "Stellan", "Sunita", "Svetla", "Takumi", "Tamar", "Tanvi", "Tariq", "Tendai", "Thiago",
    "Tomoko", "Tuulia", "Ulrika", "Upendo", "Ursula", "Vanja", "Vasco", "Veerle", "Vikram", "Violeta", "Vusi",
    "Wanjiru", "Wassim", "Wioletta", "Wolfgang", "Xavier", "Ximena", "Xiuying", "Yannick", "Yasmin", "Yelena",
    "Yevgeni", "Yohannes", "Yoko", "Yusuf", "Zainab", "Zbigniew", "Zelda", "Zeynep", "Zofia", "Zoltan", "Zsofia",
    "Zuberi",
];
